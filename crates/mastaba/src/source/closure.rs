//! Sources that are written as one closure.

/// Makes a [`Source`](crate::Source) of an async closure: a type with a name and a region, and how its keys are loaded.
///
/// The struct holds what the closure needs, a pool for example, and is what the source is read by; one that needs nothing is
/// a struct without a field. The closure takes a reference to that, the [`LoadContext`](crate::LoadContext) and the keys, and
/// gives pairs. A key that it leaves out is absent. It keeps the contract of [`Source::load_many`](crate::Source::load_many),
/// which it becomes.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use std::collections::BTreeMap;
/// use mastaba::{Cache, Region};
///
/// type Pool = BTreeMap<String, f64>; // stands for a pool of connections
///
/// mastaba::source! {
///     /// What a euro is worth in a currency.
///     pub struct RateByName(Pool) as "rate.by_name" in "objects";
///
///     async |pool, _, names: &[String]| -> Result<Vec<(String, f64)>, std::io::Error> {
///         // select name, rate from rate where name = any($1)
///         Ok(names.iter().filter_map(|name| Some((name.clone(), *pool.get(name)?))).collect())
///     }
/// }
///
/// let pool = Pool::from([("usd".to_owned(), 1.25), ("chf".to_owned(), 0.94)]);
/// let cache = Cache::builder().region("objects", Region::memory()).source(RateByName(pool)).build().await?;
/// let request = cache.request();
/// let rate = |name: &str| request.get::<RateByName>(name.to_owned());
/// let (usd, chf, none) = tokio::try_join!(rate("usd"), rate("chf"), rate("???"))?;
/// assert_eq!((usd.as_deref(), chf.as_deref(), none), (Some(&1.25), Some(&0.94), None));
/// assert_eq!(request.report().statements(), 1); // three gets, one call of the closure
/// # Ok::<_, mastaba::Error>(()) }).unwrap();
/// ```
///
/// In braces behind the region stands whatever else the source says of itself, as in an `impl`:
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # use mastaba::{Cache, Region};
/// struct Tenant(u64);
///
/// mastaba::source! {
///     /// What the tenant of the request calls a number.
///     struct NameForTenant as "name.for_tenant" in "objects" {
///         const PRIVATE: bool = true;
///     }
///
///     async |cx, ids: &[u64]| -> Result<Vec<(u64, String)>, String> {
///         let tenant = cx.request().stash().get::<Tenant>().ok_or("no tenant")?;
///         cx.count_statements(1);
///         Ok(ids.iter().map(|id| (*id, format!("{id} of {}", tenant.0))).collect())
///     }
/// }
///
/// let cache = Cache::builder().region("objects", Region::memory()).source(NameForTenant).build().await?;
/// let request = cache.request();
/// request.stash().insert(Tenant(5));
/// assert_eq!(request.get::<NameForTenant>(1).await?.unwrap().as_str(), "1 of 5");
/// assert_eq!(request.report().statements(), 2);
/// # Ok::<_, mastaba::Error>(()) }).unwrap();
/// ```
///
/// A loader that fails single keys ([`Rows::fail`](crate::Rows::fail)), or says how long one is kept, needs
/// [`Rows`](crate::Rows), and so an `impl` of its own.
#[macro_export]
macro_rules! source {
    (
        $(#[$about:meta])*
        $vis:vis struct $name:ident($state:ty) as $label:literal in $region:literal $({ $($more:tt)* })? $(;)?
        async |$held:pat_param, $cx:pat_param, $keys:ident: &[$key:ty]|
            -> Result<Vec<($same:ty, $value:ty)>, $error:ty> $body:block
    ) => {
        $(#[$about])*
        $vis struct $name($vis $state);

        $crate::source! {
            @impl $name as $label in $region { $($($more)*)? }
            async |[$held] $cx, $keys: &[$key]| -> Result<Vec<($same, $value)>, $error> $body
        }
    };
    (
        $(#[$about:meta])*
        $vis:vis struct $name:ident as $label:literal in $region:literal $({ $($more:tt)* })? $(;)?
        async |$cx:pat_param, $keys:ident: &[$key:ty]|
            -> Result<Vec<($same:ty, $value:ty)>, $error:ty> $body:block
    ) => {
        $(#[$about])*
        $vis struct $name;

        $crate::source! {
            @impl $name as $label in $region { $($($more)*)? }
            async |[] $cx, $keys: &[$key]| -> Result<Vec<($same, $value)>, $error> $body
        }
    };
    // of both: the closure has what the struct holds, or nothing
    (
        @impl $name:ident as $label:literal in $region:literal { $($more:tt)* }
        async |[$($held:pat_param)?] $cx:pat_param, $keys:ident: &[$key:ty]|
            -> Result<Vec<($same:ty, $value:ty)>, $error:ty> $body:block
    ) => {
        impl $crate::Source for $name {
            type Key = $key;
            type Value = $value;
            type Error = $error;
            const NAME: &'static str = $label;
            const REGION: &'static str = $region;
            $($more)*

            async fn load_many(
                &self,
                cx: &$crate::LoadContext<'_>,
                $keys: &[$key],
            ) -> ::core::result::Result<$crate::Rows<Self>, $error> {
                $(let $held = &self.0;)?
                let $cx = cx;
                let rows: ::core::result::Result<::std::vec::Vec<($same, $value)>, $error> = async { $body }.await;
                ::core::result::Result::Ok(rows?.into_iter().collect())
            }
        }
    };
}
