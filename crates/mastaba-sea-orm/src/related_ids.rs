//! Lists of the primary keys of what belongs to a row.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;

use mastaba::{List, LoadContext, LoadIn, Rows, Source};
use sea_orm::sea_query::{
    Alias, DynIden, Expr, ExprTrait, Func, IntoIden, Order, OverStatement, Query, SelectStatement,
    WindowStatement,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityTrait, ModelTrait, QueryResult,
    Related, TryGetableMany,
};

use crate::by_id::{ById, REGION, values};
use crate::changes;
use crate::condition::{is_any_of, most_keys};
use crate::entity::{CachedEntity, KeyOf, once_of, primary_key, table};
use crate::foreign_key::ForeignKey;

/// How many keys are in a list at most, unless it is said.
const LONGEST: u64 = 1000;

/// What a row has many of, as a source of lists: for a post, the primary keys of its comments, in their order.
///
/// `P` is the entity that has many and `C` the one that belongs to it, by `impl Related<C::Entity> for P::Entity`, which
/// SeaORM derives. A list ends after a thousand keys unless [`limit`](RelatedIds::limit) says another number, and a row
/// that has none has an empty list. It is read by [`Relations::related_many`](crate::Relations::related_many), or by
/// [`list_by`](mastaba::RequestCache::list_by) for a key.
///
/// One select for all lists that are asked for together. An index over the foreign key and the primary key makes it fast.
/// Its name is that of both tables: `comment.ids_by_post`.
///
/// To make one is enough for [`Transaction`](crate::Transaction) to know it: a row that is inserted, deleted or given to
/// another parent voids the lists that it leaves and enters.
pub struct RelatedIds<P, C> {
    db: DatabaseConnection,
    region: String,
    longest: u64,
    of: PhantomData<fn() -> (P, C)>,
}

impl<P, C> RelatedIds<P, C>
where
    P: CachedEntity + Related<C>,
    C: CachedEntity,
{
    /// The lists of this database. Costs nothing.
    pub fn new(db: &DatabaseConnection) -> Self {
        changes::know::<P, C>();
        Self { db: db.clone(), region: REGION.to_owned(), longest: LONGEST, of: PhantomData }
    }

    /// The region that its lists live in; `objects` unless it is said.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = region.into();
        self
    }

    /// How many keys a list has at most: those that come first in the order of the primary key. A thousand, unless it is
    /// said.
    #[must_use]
    pub fn limit(mut self, longest: u64) -> Self {
        // more than that no database counts
        self.longest = Ord::min(longest, i64::MAX as u64);
        self
    }

    fn foreign_key() -> Result<&'static ForeignKey<C>, DbErr> {
        ForeignKey::<C>::of_parent::<P>().as_ref().map_err(|why| DbErr::Custom(why.clone()))
    }

    /// The lists, and how many statements it took to find them.
    async fn load(&self, db: &impl ConnectionTrait, keys: &[KeyOf<P>]) -> Result<(Rows<Self>, usize), DbErr> {
        let (foreign, backend) = (Self::foreign_key()?, db.get_database_backend());
        let parts = keys.chunks(most_keys(foreign.columns().len(), backend));
        let statements = parts.len();
        // what has none has an empty list
        let mut lists: HashMap<KeyOf<P>, Vec<KeyOf<C>>> =
            keys.iter().map(|key| (key.clone(), Vec::new())).collect();
        for part in parts {
            for row in db.query_all(&self.select(foreign, Some(part), backend)).await? {
                let (parent, child) = Self::read(foreign, &row)?;
                lists.entry(parent).or_default().push(child);
            }
        }
        Ok((lists.into_iter().collect(), statements))
    }

    /// The first keys of each list; of all lists, where no keys are given.
    fn select(
        &self,
        foreign: &ForeignKey<C>,
        keys: Option<&[KeyOf<P>]>,
        backend: DbBackend,
    ) -> SelectStatement {
        let of_column = |column: C::Column| Expr::col(column.as_column_ref());
        let mut numbered = Query::select();
        let mut window = WindowStatement::new();
        for (column, name) in foreign.columns().iter().zip(names("parent")) {
            numbered.expr_as(column.select_as(of_column(*column)), name);
            window.add_partition_by(of_column(*column));
        }
        for (column, name) in primary_key::<C>().into_iter().zip(names("child")) {
            numbered.expr_as(column.select_as(of_column(column)), name);
            window.order_by_expr(of_column(column), Order::Asc);
        }
        let place = Alias::new("place").into_iden();
        numbered
            .expr_window_as(Func::cust("row_number"), window, place.clone())
            .from(C::default().table_ref());
        if let Some(keys) = keys {
            numbered.and_where(is_any_of(foreign.columns(), keys.iter().map(values).collect(), backend));
        }
        let (parents, children) = (foreign.columns().len(), primary_key::<C>().len());
        let mut select = Query::select();
        select
            .columns(names("parent").take(parents).chain(names("child").take(children)))
            .from_subquery(numbered, "numbered")
            .and_where(Expr::col(place.clone()).lte(self.longest))
            .order_by(place, Order::Asc);
        select
    }

    fn read(foreign: &ForeignKey<C>, row: &QueryResult) -> Result<(KeyOf<P>, KeyOf<C>), DbErr> {
        let named = |of, count| names(of).take(count).map(|name| name.to_string()).collect::<Vec<_>>();
        let parent = KeyOf::<P>::try_get_many(row, "", &named("parent", foreign.columns().len()))?;
        let child = KeyOf::<C>::try_get_many(row, "", &named("child", primary_key::<C>().len()))?;
        Ok((parent, child))
    }
}

/// `parent_0`, `parent_1` and so on.
fn names(of: &'static str) -> impl Iterator<Item = DynIden> {
    (0..).map(move |nth: usize| Alias::new(format!("{of}_{nth}")).into_iden())
}

impl<P, C> Source for RelatedIds<P, C>
where
    P: CachedEntity + Related<C>,
    C: CachedEntity,
{
    type Key = KeyOf<P>;
    type Value = Vec<KeyOf<C>>;
    type Error = DbErr;

    fn name() -> &'static str {
        once_of::<Self, String>(|| format!("{}.ids_by_{}", table::<C>(), table::<P>()))
    }

    fn region(&self) -> &str {
        &self.region
    }

    async fn check(&self) -> Vec<String> {
        let foreign = match ForeignKey::<C>::of_parent::<P>() {
            Ok(foreign) => foreign,
            Err(why) => return vec![why.clone()],
        };
        if !foreign.fits() {
            return vec![format!(
                "the columns of {} that lead to {} are of other types than the primary key of the latter",
                table::<C>(),
                table::<P>()
            )];
        }
        let mut select = self.select(foreign, None, self.db.get_database_backend());
        let found = self.db.query_all(select.limit(0)).await;
        let problem = |error| format!("the keys in {} cannot be selected: {error}", table::<C>());
        found.err().map(problem).into_iter().collect()
    }

    async fn load_many(&self, cx: &LoadContext<'_>, keys: &[KeyOf<P>]) -> Result<Rows<Self>, DbErr> {
        let (rows, statements) = self.load(&self.db, keys).await?;
        cx.count_statements(u32::try_from(statements - 1).unwrap_or(u32::MAX));
        Ok(rows)
    }
}

impl<P, C, D> LoadIn<D> for RelatedIds<P, C>
where
    P: CachedEntity + Related<C>,
    C: CachedEntity,
    D: ConnectionTrait + Send,
{
    async fn load_in(&self, connection: &mut D, keys: &[KeyOf<P>]) -> Result<Rows<Self>, DbErr> {
        self.load(connection, keys).await.map(|(rows, _)| rows)
    }
}

impl<P, C> List for RelatedIds<P, C>
where
    P: CachedEntity + Related<C>,
    C: CachedEntity,
{
    type Rows = ById<C>;

    fn holds(key: &KeyOf<P>, row: &<C as EntityTrait>::Model) -> bool {
        let foreign = ForeignKey::<C>::of_parent::<P>().as_ref();
        let parent = foreign.map(|foreign| foreign.parent::<P>(&|column| Some(row.get(column))));
        matches!(parent, Ok(Ok(Some(parent))) if parent == *key)
    }
}

impl<P: EntityTrait, C: EntityTrait> fmt::Debug for RelatedIds<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelatedIds")
            .field("of", &table::<P>())
            .field("to", &table::<C>())
            .field("longest", &self.longest)
            .finish_non_exhaustive()
    }
}
