//! Children that are kept in the record of their parent.

use mastaba_sqlx::Begin;

use crate::library::{Base, Library, Line, LineByOrderIdAndNr, Order, OrderById};

/// The things of an order, and how many statements it took to read them.
async fn things<DB: Base>(library: &Library<DB>, order: i64) -> (Vec<String>, usize) {
    let request = library.request();
    let order = request.find::<Order>(order).await.unwrap().unwrap();
    let lines = order.lines.get(&request).await.unwrap();
    library.cache.idle().await;
    (lines.iter().map(|line| line.thing.clone()).collect(), request.report().statements())
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|text| (*text).to_owned()).collect()
}

pub(crate) async fn children_come_with_their_parents_and_cost_nothing_then<DB: Base>(library: Library<DB>) {
    let request = library.request();
    let orders = request.find_many::<Order>([1, 2, 3]).await.unwrap();
    let kept = |order| {
        orders[&order].as_ref().unwrap().lines.kept().map(|lines| lines.map(|line| line.nr).collect())
    };
    assert_eq!((kept(1), kept(2), kept(3)), (Some(vec![2, 1]), None, Some(vec![])));
    assert_eq!(orders[&1].as_ref().unwrap().customer, "ada");
    assert_eq!(request.report().statements(), 2, "orders, and the lines of all of them");
    library.cache.idle().await;
    let request = library.request();
    let order = request.find::<Order>(1).await.unwrap().unwrap();
    assert_eq!(order.lines.get(&request).await.unwrap()[0].thing, "ink");
    assert_eq!((request.report().statements(), request.report().shared_trips()), (0, 1));
    assert_eq!(library.request().find_many::<Order>([8, 9]).await.unwrap().found().count(), 0);
}

pub(crate) async fn more_children_than_the_cap_are_a_list<DB: Base>(library: Library<DB>) {
    assert_eq!(
        things(&library, 2).await,
        (texts(&["d", "c", "b", "a"]), 4),
        "2 for orders, and a list and its rows"
    );
    assert_eq!(things(&library, 2).await.1, 0);
}

pub(crate) async fn a_change_of_a_child_voids_its_parent<DB: Base>(library: Library<DB>) {
    assert_eq!(things(&library, 1).await.0, texts(&["ink", "pen"]));
    let request = library.request();
    let mut tx = request.begin(&library.pool).await.unwrap();
    let old = tx.get::<LineByOrderIdAndNr>((1, 2)).await.unwrap().unwrap();
    DB::execute(&mut tx, "update line set thing = 'red ink' where order_id = 1 and nr = 2".to_owned())
        .await
        .unwrap();
    let new = Line { thing: "red ink".to_owned(), ..(*old).clone() };
    tx.changed(&*old, &new).unwrap();
    let inside = tx.get::<OrderById>(1).await.unwrap().unwrap();
    assert_eq!(inside.lines.kept().unwrap().next().unwrap().thing, "red ink", "as the transaction sees it");
    tx.commit().await.unwrap();
    assert_eq!(things(&library, 1).await, (texts(&["red ink", "pen"]), 2));
    // one that goes over to another order voids both
    assert_eq!(things(&library, 3).await.0, texts(&[]));
    let mut tx = request.begin(&library.pool).await.unwrap();
    DB::execute(&mut tx, "update line set order_id = 3 where order_id = 1 and nr = 2".to_owned())
        .await
        .unwrap();
    tx.changed(&new, &Line { order_id: 3, ..new.clone() }).unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        (things(&library, 1).await.0, things(&library, 3).await.0),
        (texts(&["pen"]), texts(&["red ink"]))
    );
}
