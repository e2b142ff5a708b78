//! Two processes of the blog over one Postgres and one Redis, and what people see of them.

use std::process::Stdio;
use std::time::{Duration, Instant};

use mastaba_test::servers::{Postgres, RedisServer};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

struct Process {
    addr: String,
    _child: Child,
}

impl Process {
    async fn start(postgres: &Postgres, redis: &RedisServer) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_blog"))
            .env("DATABASE_URL", postgres.url())
            .env("REDIS_URL", redis.url())
            .env("LISTEN", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().expect("it says where it listens");
        Self { addr: line.trim_start_matches("http://").to_owned(), _child: child }
    }

    /// Sends a request, and leaves the answer to the caller.
    async fn send(&self, method: &str, path: &str, body: &Value) -> TcpStream {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: blog\r\nconnection: close\r\ncontent-type: application/json\r\n"
        );
        let mut stream = TcpStream::connect(&self.addr).await.unwrap();
        let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// The status, the `Server-Timing` header and the body.
    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, String, String) {
        let mut answer = String::new();
        self.send(method, path, &body).await.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let timing = head.lines().find(|line| line.starts_with("server-timing")).unwrap_or_default();
        (status, timing.to_owned(), body.to_owned())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.call("GET", path, Value::Null).await;
        (status, body)
    }

    /// Who wrote the first post.
    async fn author(&self) -> String {
        let page: Value = serde_json::from_str(&self.get("/posts/1").await.1).unwrap();
        page[0]["author"]["name"].as_str().unwrap().to_owned()
    }
}

struct Blog {
    pool: PgPool,
    one: Process,
    two: Process,
    _servers: (Postgres, RedisServer),
}

/// Ten posts of as many people in two teams, each with three comments.
async fn blog() -> Option<Blog> {
    let (postgres, redis) = (Postgres::start().await?, RedisServer::start().await?);
    let (one, two) = (Process::start(&postgres, &redis).await, Process::start(&postgres, &redis).await);
    let pool = PgPool::connect(&postgres.url()).await.unwrap();
    let rows = "insert into team (name) values ('red'), ('blue');
        insert into account (name, email, team_id)
            select 'user ' || n, 'u' || n || '@example.org', 1 + n % 2 from generate_series(1, 10) n;
        insert into post (author_id, title) select n, 'post ' || n from generate_series(1, 10) n;
        insert into comment (post_id, author_id, text)
            select n, 1 + (n + m) % 10, 'comment ' || m from generate_series(1, 10) n, generate_series(1, 3) m;";
    sqlx::raw_sql(rows).execute(&pool).await.unwrap();
    Some(Blog { pool, one, two, _servers: (postgres, redis) })
}

#[tokio::test]
async fn ten_posts_with_authors_and_comments_are_four_statements_and_then_none() {
    let Some(blog) = blog().await else { return };
    let all = "/posts/1,2,3,4,5,6,7,8,9,10";
    let (status, cold, body) = blog.one.call("GET", all, Value::Null).await;
    assert_eq!(status, 200);
    assert!(cold.contains("\"4 statements\""), "posts, comments, users, teams: {cold}");
    let pages: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(pages[9]["author"], json!({"name": "user 10", "team": "red"}));
    assert_eq!(pages[9]["comments"].as_array().unwrap().len(), 3);
    let warm = blog.one.call("GET", all, Value::Null).await;
    assert!(warm.1.contains("\"0 statements\"") && warm.2 == body, "{}", warm.1);
    let elsewhere = blog.two.call("GET", all, Value::Null).await;
    assert!(elsewhere.1.contains("\"0 statements\"") && elsewhere.2 == body, "{}", elsewhere.1);
}

#[tokio::test]
async fn an_edit_is_seen_by_the_other_process_under_every_key_of_the_row() {
    let Some(blog) = blog().await else { return };
    for process in [&blog.one, &blog.two] {
        assert_eq!(process.author().await, "user 1");
        assert_eq!(process.get("/users/by-email/u1@example.org").await.0, 200);
        assert_eq!(process.get("/users/by-email/ada@example.org").await.0, 404, "and that is remembered");
    }
    let edit = json!({"name": "Ada", "email": "ada@example.org"});
    let (status, cost, _) = blog.one.call("PUT", "/users/1", edit).await;
    assert_eq!(status, 204);
    assert!(cost.contains("\"2 statements\""), "those of the transaction count: {cost}");
    for process in [&blog.one, &blog.two] {
        assert_eq!(process.author().await, "Ada");
        assert_eq!(process.get("/users/by-email/u1@example.org").await.0, 404);
        assert!(process.get("/users/by-email/ada@example.org").await.1.contains("Ada"));
    }
}

#[tokio::test]
async fn an_edit_that_the_database_refuses_changes_nothing_and_says_so() {
    let Some(blog) = blog().await else { return };
    assert_eq!(blog.two.author().await, "user 1");
    let taken = json!({"name": "Eve", "email": "u2@example.org"});
    assert_eq!(blog.one.call("PUT", "/users/1", taken).await.0, 409);
    assert_eq!((blog.one.author().await, blog.two.author().await), ("user 1".into(), "user 1".into()));
    assert_eq!(blog.one.call("PUT", "/users/99", json!({"name": "", "email": ""})).await.0, 404);
}

#[tokio::test]
async fn a_comment_is_in_the_list_that_the_other_process_had_read() {
    let Some(blog) = blog().await else { return };
    assert!(!blog.two.get("/posts/1").await.1.contains("Hear, hear"));
    let draft = json!({"author_id": 2, "text": "Hear, hear"});
    assert_eq!(blog.one.call("POST", "/posts/1/comments", draft).await.0, 201);
    assert!(blog.two.get("/posts/1").await.1.contains("Hear, hear"));
    let nobody = json!({"author_id": 99, "text": "Boo"});
    assert_eq!(blog.one.call("POST", "/posts/1/comments", nobody).await.0, 409);
}

#[tokio::test]
async fn a_client_that_goes_away_during_commit_leaves_nothing_old_behind() {
    let Some(blog) = blog().await else { return };
    let slow_commit = "create function slow() returns trigger language plpgsql as
            'begin perform pg_sleep(1); return null; end';
        create constraint trigger slow after update on account deferrable initially deferred
            for each row execute function slow();";
    sqlx::raw_sql(slow_commit).execute(&blog.pool).await.unwrap();
    for process in [&blog.one, &blog.two] {
        assert_eq!(process.author().await, "user 1");
    }
    let edit = json!({"name": "Ada", "email": "ada@example.org"});
    let stream = blog.one.send("PUT", "/users/1", &edit).await;
    let commits = "select count(*) from pg_stat_activity where state = 'active' and query ilike 'commit%'";
    let until = Instant::now() + Duration::from_secs(30);
    while sqlx::query_scalar::<_, i64>(commits).fetch_one(&blog.pool).await.unwrap() == 0 {
        assert!(Instant::now() < until, "nobody commits");
    }
    drop(stream);
    while blog.one.author().await != "Ada" || blog.two.author().await != "Ada" {
        assert!(Instant::now() < until, "an old value is served for good");
    }
}
