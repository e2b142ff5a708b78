//! What is found when the cache is built.

use mastaba::Sources;

use crate::library::{Base, Library};

/// The problems of building a cache over these tables.
async fn problems<DB: Base>(library: &Library<DB>, sources: Sources) -> Vec<String> {
    match Library::<DB>::cache(&library.pool, sources).await {
        Ok(_) => Vec::new(),
        Err(error) => error.to_string().split("\n- ").skip(1).map(str::to_owned).collect(),
    }
}

pub(crate) async fn everything_that_is_wrong_with_the_tables_is_told_at_once<DB: Base>(library: Library<DB>) {
    for sql in [
        "drop table post",
        "drop table seat",
        // no key, `title` is missing, `score` is another type; the unique index on the slug has a column too many
        "create table post (id bigint not null, slug varchar(100) not null, author_id bigint not null, \
         editor_id bigint, score varchar(10) not null, state varchar(10) not null, unique (slug, author_id))",
        "create table seat (team bigint not null, nr int not null, holder varchar(50) not null, primary key (team, nr))",
    ] {
        library.run(sql).await;
    }
    let told = problems(&library, DB::sources(&library.pool)).await;
    let has = |what: &str| assert!(told.iter().any(|problem| problem.contains(what)), "{what}\n{told:#?}");
    has(
        "source post.by_id: table post has no column title; it has id, slug, author_id, editor_id, score, state",
    );
    has("source post.by_id: column score of table post is ");
    has(", which a field of type i32 cannot hold");
    has(
        "source post.by_id: table post has no primary key or unique index on (id), so that two rows could have one key",
    );
    has("source post.by_id: table post has no primary key or unique index on (slug)");
    has("source seat.by_team_and_nr: table seat has no primary key or unique index on (team, holder)");
    assert_eq!(told.len(), 5, "{told:#?}");
    assert!(problems(&library, DB::sources(&library.pool).unchecked()).await.is_empty());
}

pub(crate) async fn a_table_that_is_missing_is_named<DB: Base>(library: Library<DB>) {
    library.run("drop table tag").await;
    let told = problems(&library, DB::sources(&library.pool)).await;
    assert!(
        told.len() == 1 && told[0].starts_with("source keyword.by_word: table tag cannot be read: "),
        "{told:#?}"
    );
}

pub(crate) async fn a_view_needs_no_key<DB: Base>(library: Library<DB>) {
    for sql in ["create view post_view as select * from tag", "drop view post_view"] {
        library.run(sql).await;
    }
    // a view in the place of the table
    for sql in [
        "create table tags_of_old (name varchar(100), uses bigint not null)",
        "drop table tag",
        "create view tag as select * from tags_of_old",
    ] {
        library.run(sql).await;
    }
    assert!(problems(&library, DB::sources(&library.pool)).await.is_empty());
    for sql in ["drop view tag", "drop table tags_of_old"] {
        library.run(sql).await;
    }
}
