//! What a change voids.

use mastaba_sqlx::Begin;

use crate::library::{Base, Library, Post, PostById, PostBySlug, PostIdsByAuthorId};

/// What was read from the database: a row, its entry in the index, and the lists of two authors.
async fn loads<DB: Base>(library: &Library<DB>, slug: &str) -> [usize; 4] {
    let statements = async |read: u8| {
        let request = library.request();
        match read {
            0 => drop(request.get::<PostById>(9).await.unwrap()),
            1 => drop(request.get::<PostBySlug>(slug.to_owned()).await.unwrap()),
            author => drop(request.get::<PostIdsByAuthorId>(i64::from(author) - 1).await.unwrap()),
        }
        library.cache.idle().await;
        request.report().statements()
    };
    [statements(0).await, statements(1).await, statements(2).await, statements(3).await]
}

/// Updates post 9 by way of a transaction that is told what it was and what it is.
async fn update<DB: Base>(library: &Library<DB>, set: &str, change: impl FnOnce(&mut Post)) {
    let request = library.request();
    let mut tx = request.begin(&library.pool).await.unwrap();
    let old = tx.get::<PostById>(9).await.unwrap().unwrap();
    let mut new = (*old).clone();
    change(&mut new);
    DB::execute(&mut tx, format!("update post set {set} where id = 9")).await.unwrap();
    tx.changed(&*old, &new).unwrap();
    tx.commit().await.unwrap();
}

pub(crate) async fn a_change_voids_its_row_and_what_it_leaves_and_enters<DB: Base>(library: Library<DB>) {
    loads(&library, "post-9").await;
    assert_eq!(loads(&library, "post-9").await, [0; 4]);
    update(&library, "title = 'Nine'", |post| post.title = "Nine".to_owned()).await;
    assert_eq!(loads(&library, "post-9").await, [1, 0, 0, 0], "its row alone");
    update(&library, "score = 0", |post| post.score = 0).await;
    assert_eq!(loads(&library, "post-9").await, [1, 0, 1, 0], "the list whose order it changes");
    assert_eq!(Post::by_author(&library.request(), 1).await.unwrap()[0].id, 13);
    update(&library, "author_id = 2", |post| post.author_id = 2).await;
    assert_eq!(
        loads(&library, "post-9").await,
        [1, 0, 1, 1],
        "the list that it leaves and the one that it enters"
    );
    update(&library, "slug = 'nine'", |post| post.slug = "nine".to_owned()).await;
    assert_eq!(loads(&library, "post-9").await, [1, 1, 0, 0], "the entry of its old name");
    assert_eq!(library.request().get::<PostBySlug>("post-9".to_owned()).await.unwrap(), None);
    assert_eq!(Post::by_slug(&library.request(), "nine".to_owned()).await.unwrap().unwrap().title, "Nine");
}

pub(crate) async fn a_row_that_is_inserted_or_deleted_is_seen<DB: Base>(library: Library<DB>) {
    let by_slug = async |slug: &str| {
        let post = Post::by_slug(&library.request(), slug.to_owned()).await.unwrap();
        library.cache.idle().await;
        post.map(|post| post.id)
    };
    let by_author = async || Post::by_author(&library.request(), 8).await.unwrap().len();
    assert_eq!((by_slug("new").await, by_author().await), (None, 0));
    let post = Post {
        id: 50,
        slug: "new".to_owned(),
        author_id: 8,
        editor_id: None,
        title: String::new(),
        score: 1,
        state: String::new(),
    };
    let request = library.request();
    let mut tx = request.begin(&library.pool).await.unwrap();
    DB::execute(&mut tx, "insert into post values (50, 'new', 8, null, '', 1, '')".to_owned()).await.unwrap();
    tx.inserted(&post).unwrap();
    tx.commit().await.unwrap();
    assert_eq!((by_slug("new").await, by_author().await), (Some(50), 1));
    let mut tx = request.begin(&library.pool).await.unwrap();
    DB::execute(&mut tx, "delete from post where id = 50".to_owned()).await.unwrap();
    tx.deleted(&post).unwrap();
    tx.commit().await.unwrap();
    assert_eq!((by_slug("new").await, by_author().await), (None, 0));
}

pub(crate) async fn a_transaction_reads_its_own_rows<DB: Base>(library: Library<DB>) {
    let request = library.request();
    let mut tx = request.begin(&library.pool).await.unwrap();
    DB::execute(&mut tx, "update post set title = 'mine' where id = 3".to_owned()).await.unwrap();
    let posts = tx.get_many::<PostById>([3, 4]).await.unwrap();
    assert_eq!(posts.found().map(|(_, post)| post.title.as_str()).collect::<Vec<_>>(), ["mine", "Title 4"]);
    tx.rollback().await.unwrap();
    assert_eq!(library.request().find::<Post>(3).await.unwrap().unwrap().title, "Title 3");
}

pub(crate) async fn a_row_that_somebody_else_moved_is_never_a_wrong_one<DB: Base>(library: Library<DB>) {
    let id = async |slug: &str| {
        Post::by_slug(&library.request(), slug.to_owned()).await.unwrap().map(|post| post.id)
    };
    assert_eq!((id("post-1").await, id("post-2").await), (Some(1), Some(2)));
    library.cache.idle().await;
    for set in ["slug = 'x' where id = 1", "slug = 'post-1' where id = 2", "slug = 'post-2' where id = 1"] {
        library.run(&format!("update post set {set}")).await;
    }
    library.request().invalidate::<PostById>([1, 2]).await.unwrap();
    assert_eq!((id("post-1").await, id("post-2").await), (Some(2), Some(1)));
}
