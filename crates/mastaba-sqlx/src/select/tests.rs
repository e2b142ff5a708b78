//! The text that a select is sent as, for each database.

use sqlx::{Arguments, Database};

use super::bind::{Bind, Two};
use super::statement::Statement;

/// The text for these keys, and how many arguments it has.
fn sent<DB: Database, Shape, K: Bind<DB, Shape>>(sql: &str, keys: &[K]) -> (String, usize) {
    let (sql, arguments) = K::bind(&Statement::new(sql), keys).unwrap();
    (sql.as_str().to_owned(), arguments.len())
}

const ONE: &str = "select id from post where id in {keys} order by id";
const PAIR: &str = "select 1 from seat where (team, nr) IN {keys}";

#[cfg(feature = "postgres")]
#[test]
fn postgres_takes_an_array_for_each_column() {
    let one = "select id from post where id = any($1) order by id";
    assert_eq!(sent::<sqlx::Postgres, _, _>(ONE, &[1_i64, 2, 3]), (one.to_owned(), 1));
    let pair = "select 1 from seat where (team, nr) in (select * from unnest($1, $2))";
    assert_eq!(sent::<sqlx::Postgres, Two, _>(PAIR, &[(1_i64, 2_i32), (3, 4)]), (pair.to_owned(), 2));
}

#[cfg(feature = "mysql")]
#[test]
fn mysql_takes_marks_up_to_the_next_power_of_two() {
    let marks = |sql: &str, marks: &str| sql.replace("{keys}", &format!("({marks})"));
    assert_eq!(sent::<sqlx::MySql, _, _>(ONE, &[7_i64]), (marks(ONE, "?"), 1));
    assert_eq!(sent::<sqlx::MySql, _, _>(ONE, &[7_i64, 8, 9]), (marks(ONE, "?, ?, ?, ?"), 4));
    let pair = marks(PAIR, "(?, ?), (?, ?)").replace("IN", "in");
    assert_eq!(sent::<sqlx::MySql, Two, _>(PAIR, &[(1_i64, 2_i32), (3, 4)]), (pair, 4));
}

#[cfg(feature = "sqlite")]
#[test]
fn sqlite_takes_json_of_what_stands_in_it_as_it_is_and_marks_for_the_rest() {
    let json = ONE.replace("{keys}", "(select value from json_each(?))");
    assert_eq!(sent::<sqlx::Sqlite, _, _>(ONE, &[7_i64, 8, 9]), (json.clone(), 1));
    assert_eq!(sent::<sqlx::Sqlite, _, _>(ONE, &["a\"b".to_owned(), "ß".to_owned()]), (json, 1));
    // its JSON ends at the first zero byte
    let marks = ONE.replace("{keys}", "(?, ?)");
    assert_eq!(sent::<sqlx::Sqlite, _, _>(ONE, &["a\0b".to_owned(), "c".to_owned()]), (marks.clone(), 2));
    // bytes are a list of numbers in JSON
    assert_eq!(sent::<sqlx::Sqlite, _, _>(ONE, &[vec![1_u8], vec![2]]), (marks, 2));
    let pair = PAIR.replace("IN {keys}", "in (values (?, ?), (?, ?))");
    assert_eq!(
        sent::<sqlx::Sqlite, Two, _>(PAIR, &[(1_i64, "a".to_owned()), (3, "b".to_owned())]),
        (pair, 4)
    );
}

#[test]
fn a_text_without_a_place_for_its_keys_is_refused() {
    let refused = |sql: &'static str| {
        let said = std::panic::catch_unwind(|| Statement::new(sql)).unwrap_err();
        said.downcast_ref::<String>().unwrap().clone()
    };
    for sql in ["select 1", "select 1 where a in {keys} or b in {keys}"] {
        assert!(refused(sql).contains("has to stand in a select just once"), "{sql}");
    }
    for sql in ["select 1 where id = {keys}", "select 1 from a join {keys}", "{keys}"] {
        assert!(refused(sql).contains("`in` has to stand before `{keys}`"), "{sql}");
    }
}
