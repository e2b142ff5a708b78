//! Servers beside the one that all tests start, as the test command fetches them.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use mastaba_test::servers::{Program, missing};
use tokio::process::{Child, Command};

use crate::binary::run;
use crate::page::{check, steady};

/// Killed with its value.
struct Other {
    port: u16,
    _process: Child,
}

impl Other {
    /// One that keeps nothing on disk. `None`: it is not there, which is said.
    fn start(program: Program) -> Option<Self> {
        if missing(&[program]) {
            return None;
        }
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let mut command = Command::new(program.find().expect("it was there before"));
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--dir"]);
        command.arg(std::env::temp_dir()).args(["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]);
        let command = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        Some(Self { port, _process: command.spawn().expect("it can be started") })
    }
}

async fn is_shown_on_the_page(program: Program, block: &str, software: &str) {
    let Some(server) = Other::start(program) else { return };
    let url = format!("redis://127.0.0.1:{}", server.port);
    for _ in 0..200 {
        let ran = run(&["doctor", "--pings", "20", "--url", &url]).await;
        if ran.code == 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        }
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
        assert!(ran.out.contains(&format!("\n{software}")), "{}", ran.out);
        return check(block, &steady(&ran.out, &[server.port]));
    }
    panic!("{program:?} does not answer");
}

#[tokio::test]
async fn a_valkey_9_is_shown_on_the_page() {
    is_shown_on_the_page(Program::Valkey9, "valkey9", "Valkey 9.").await;
}

#[tokio::test]
async fn a_valkey_8_is_shown_on_the_page() {
    is_shown_on_the_page(Program::Valkey8, "valkey8", "Valkey 8.").await;
}

#[tokio::test]
async fn a_redis_8_is_shown_on_the_page() {
    is_shown_on_the_page(Program::Redis8, "redis8", "Redis 8.").await;
}
