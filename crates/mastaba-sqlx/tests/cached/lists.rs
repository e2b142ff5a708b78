//! Lists of keys.

use futures_util::future::try_join_all;

use crate::library::{
    Base, Library, Note, Post, PostIdsByAuthorId, PostIdsByEditorId, PostIdsDraftsOf, Seat,
};

fn ids(posts: &[std::sync::Arc<Post>]) -> Vec<i64> {
    posts.iter().map(|post| post.id).collect()
}

pub(crate) async fn a_list_has_its_order_and_its_limit<DB: Base>(library: Library<DB>) {
    let request = library.request();
    // of author 1: posts 1, 5, 9, 13, 17 with scores 1, 0, 4, 3, 2
    assert_eq!(ids(&Post::by_author(&request, 1).await.unwrap()), [9, 13, 17]);
    assert_eq!(request.report().statements(), 2);
    library.cache.idle().await;
    let request = library.request();
    assert_eq!(ids(&request.list_by::<PostIdsByAuthorId>(1).await.unwrap()), [9, 13, 17]);
    assert_eq!(
        request.get::<PostIdsByAuthorId>(77).await.unwrap().as_deref(),
        Some(&vec![]),
        "an empty list is a list"
    );
    assert_eq!(request.report().statements(), 1);
    library.cache.idle().await;
    let request = library.request();
    assert!(Post::by_author(&request, 77).await.unwrap().is_empty());
    assert_eq!(request.report().statements(), 0, "and it is stored");
    let seats = Seat::of_team(&request, 2).await.unwrap();
    assert_eq!(
        seats.iter().map(|seat| (seat.nr, seat.holder.as_str())).collect::<Vec<_>>(),
        [(3, "dan"), (1, "bob"), (2, "ada")]
    );
}

pub(crate) async fn a_row_without_a_value_stands_in_no_list<DB: Base>(library: Library<DB>) {
    let request = library.request();
    let lists = request.list_many_by::<PostIdsByEditorId>([0, 1, 2]).await.unwrap();
    let all: Vec<_> = lists.values().map(|posts| ids(posts)).collect();
    assert_eq!(all, [vec![3, 9, 15], vec![1, 7, 13, 19], vec![5, 11, 17]], "in the order of their keys");
    assert_eq!(request.report().statements(), 2);
    let post = request.find::<Post>(2).await.unwrap().unwrap();
    assert_eq!(post.editor_id, None);
    let write = request.write();
    write.deleted(&*post).unwrap();
    write.published().await.unwrap();
}

pub(crate) async fn lists_of_many_and_their_rows_are_two_statements<DB: Base>(library: Library<DB>) {
    let request = library.request();
    let lists = try_join_all((0..4).map(|author| Post::by_author(&request, author))).await.unwrap();
    assert_eq!(lists.iter().map(Vec::len).collect::<Vec<_>>(), [3; 4]);
    assert_eq!(request.report().statements(), 2);
}

pub(crate) async fn a_condition_chooses_the_rows_of_a_list<DB: Base>(library: Library<DB>) {
    let request = library.request();
    // drafts are 5, 10, 15, 20
    assert_eq!(ids(&Post::drafts_of(&request, 1).await.unwrap()), [5]);
    assert_eq!(request.get::<PostIdsDraftsOf>(2).await.unwrap().as_deref(), Some(&vec![10]));
    let old = request.find::<Post>(5).await.unwrap().unwrap();
    let new = Post { state: "shown".to_owned(), ..(*old).clone() };
    library.run("update post set state = 'shown' where id = 5").await;
    let write = request.write();
    write.changed(&*old, &new).unwrap();
    write.published().await.unwrap();
    assert!(
        Post::drafts_of(&library.request(), 1).await.unwrap().is_empty(),
        "what a condition says is not known here"
    );
}

pub(crate) async fn relations_are_what_lists_go_by_and_three_levels_are_a_statement_each<DB: Base>(
    library: Library<DB>,
) {
    let request = library.request();
    let answers = Note::by_answers(&request, 1).await.unwrap();
    assert_eq!(answers.iter().map(|note| note.id).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(request.report().statements(), 2);
    let posts = try_join_all(answers.iter().map(|note| note.post.get(&request))).await.unwrap();
    assert_eq!(posts.iter().flatten().map(|post| post.id).collect::<Vec<_>>(), [6, 5]);
    assert_eq!(request.report().statements(), 3);
    let beside = posts.iter().flatten().map(|post| Note::by_post(&request, post.id));
    let beside = try_join_all(beside).await.unwrap();
    let ids = beside.iter().map(|notes| notes.iter().map(|note| note.id).collect::<Vec<_>>());
    assert_eq!(ids.collect::<Vec<_>>(), [vec![3], vec![1, 2]]);
    assert_eq!(request.report().statements(), 5, "the lists, and one row that was not known");
    let first = beside[1][1].answers.as_ref().unwrap().get(&request).await.unwrap().unwrap();
    assert_eq!((first.id, request.report().statements()), (1, 5));
}
