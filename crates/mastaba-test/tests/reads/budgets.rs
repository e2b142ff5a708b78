//! Budgets: one number or both, asserted by a report, by a guard, and warned about by a scope.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use mastaba::{Budget, RequestCache};
use mastaba_test::world::{UserById, World};

/// What a panic said; nothing if there was none.
fn said(work: impl FnOnce()) -> String {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(()) => String::new(),
        Err(why) => match why.downcast::<String>() {
            Ok(said) => *said,
            Err(why) => (*why.downcast_ref::<&str>().expect("a panic with a sentence")).to_owned(),
        },
    }
}

async fn one_by_one(request: &RequestCache, keys: std::ops::RangeInclusive<u64>) {
    for key in keys {
        request.get::<UserById>(key).await.unwrap();
    }
}

#[tokio::test]
async fn one_number_leaves_the_other_one_free() {
    let request = World::new().await.request();
    one_by_one(&request, 1..=3).await; // the first load takes a lease: 4 trips, 3 statements
    let report = request.report();
    for budget in [Budget::statements(3), Budget::trips(4), Budget::ANY, Budget { trips: 4, statements: 3 }] {
        assert!(report.is_within(budget), "{budget:?}");
        report.assert_at_most(budget);
    }
    for (budget, may) in [
        (Budget::statements(2), "any number and 2"),
        (Budget::trips(3), "3 and any number"),
        (Budget { trips: 3, ..Budget::statements(3) }, "3 and 3"),
    ] {
        assert!(!report.is_within(budget), "{budget:?}");
        let said = said(|| report.assert_at_most(budget));
        let sentence = format!("the request cost 4 trips and 3 statements, and may cost {may}\n");
        assert!(said.starts_with(&sentence), "{said}");
    }
}

#[tokio::test]
async fn a_scope_over_one_number_says_which() {
    let over = Arc::new(Mutex::new(Vec::new()));
    let heard = over.clone();
    let scope = World::new().await.cache.scope("a job").budget(Budget::statements(1));
    let scope = scope.on_over_budget(move |over| heard.lock().unwrap().push(over.to_string()));
    one_by_one(&scope, 1..=2).await;
    drop(scope);
    let sentence = "N+1? a job cost 3 trips and 2 statements, and may cost any number and 1; most by user: 2";
    assert_eq!(*over.lock().unwrap(), [sentence]);
}

#[tokio::test]
async fn a_guard_panics_where_it_ends_if_more_was_spent_since_it_was_made() {
    let request = World::new().await.request();
    one_by_one(&request, 1..=3).await;
    let guard = request.budget(Budget::statements(2));
    one_by_one(&request, 4..=6).await;
    let said = said(|| drop(guard));
    assert!(said.starts_with("what is under the budget of "), "{said}");
    assert!(said.contains("budgets.rs") && said.contains("cost 3 trips and 3 statements"), "{said}");
    assert!(said.lines().count() > 12, "the whole report: {said}");
}

#[tokio::test]
async fn a_guard_is_silent_within_its_budget_whatever_was_spent_before() {
    let request = World::new().await.request();
    one_by_one(&request, 1..=9).await;
    let _outer = request.budget(Budget { trips: 2, statements: 1 });
    {
        let _none = request.budget(Budget { trips: 0, statements: 0 });
        one_by_one(&request, 1..=9).await; // which the request knows
    }
    request.get_many::<UserById>(10..=30).await.unwrap();
}

#[tokio::test]
async fn a_guard_keeps_silent_while_another_panic_unwinds() {
    let request = World::new().await.request();
    let guard = request.budget(Budget::trips(0));
    one_by_one(&request, 1..=1).await;
    // a second panic would end the process
    let said = said(move || {
        let _guard = guard;
        panic!("{} failed", "an assertion");
    });
    assert_eq!(said, "an assertion failed");
}
