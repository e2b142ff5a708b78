//! The explorer over Postgres: the same pages from the same rows.

#![cfg(unix)]

mod web;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use self::web::{Explorer, MODES, content, demo, ended, figure, in_mode, line, links, missing, package};

/// A server of its own, in a temporary folder; stopped when it is dropped.
struct Postgres {
    programs: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
}

impl Postgres {
    /// None, and a word about it, where there is no Postgres.
    fn start() -> Option<Self> {
        let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = installed
            .map(|version| version.path().join("bin"))
            .filter(|bin| bin.join("initdb").is_file())
            .collect();
        found.sort();
        let Some(programs) = found.pop() else {
            return (!missing("Postgres")).then(|| unreachable!());
        };
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { programs, folder, port };
        if root() {
            let given = Command::new("chown").arg("postgres").arg(server.folder.path()).status().unwrap();
            assert!(given.success());
        }
        let at = server.folder.path().display().to_string();
        let data = format!("{at}/data");
        server.run("initdb", &["-D", &data, "-A", "trust", "-U", "demo", "--no-sync"]);
        let options = format!("-p {port} -k {at} -c listen_addresses=127.0.0.1 -c fsync=off");
        server.run(
            "pg_ctl",
            &["-D", &data, "-o", &options, "-l", &format!("{at}/log"), "-t", "30", "-w", "start"],
        );
        server.run("createdb", &["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "demo", "packages"]);
        Some(server)
    }

    fn url(&self) -> String {
        format!("postgres://demo@127.0.0.1:{}/packages", self.port)
    }

    /// Runs one of its programs, which refuse to be run by root.
    fn run(&self, program: &str, args: &[&str]) {
        let output = self.try_run(program, args);
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn try_run(&self, program: &str, args: &[&str]) -> Output {
        let program = self.programs.join(program);
        let mut command = if root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        // a server that holds on to a pipe would keep its reader waiting
        let log = std::fs::File::create(self.folder.path().join("programs.log")).unwrap();
        command.args(args).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let status = command.status().unwrap();
        let told = std::fs::read(self.folder.path().join("programs.log")).unwrap();
        Output { status, stdout: Vec::new(), stderr: told }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.folder.path().join("data").display().to_string();
        let _ = self.try_run("pg_ctl", &["-D", &data, "-m", "immediate", "-t", "30", "-w", "stop"]);
    }
}

fn root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

#[test]
fn pages_over_postgres_are_those_over_sqlite() {
    let Some(server) = Postgres::start() else { return };
    let url = server.url();
    let postgres = Explorer::start(&["--postgres", &url]);
    let sqlite = Explorer::start(&[]);
    let serde = package(&postgres, "serde");
    let author = links(&postgres.get(&serde).page(), "/authors/").remove(0);
    let license = links(&postgres.get(&serde).page(), "/licences/").remove(0);
    let ends = |page: String| content(&page).replace("Rows from Postgres", "Rows from SQLite");
    for address in ["/", "/?q=serde", "/?q=%5C%25_", "/?page=2", &serde, "/packages/1", &author, &license] {
        let expected = ends(sqlite.get(address).page());
        for mode in MODES {
            assert!(ends(postgres.get(&in_mode(address, mode)).page()) == expected, "{address} in {mode}");
        }
    }
    let costs = MODES.map(|mode| figure(&postgres.get(&in_mode(&serde, mode)).page(), "statements"));
    assert!(costs[0] > 5.0 * costs[1] && costs[1] > 0.0 && costs[2] == 0.0, "{costs:?}");
    for address in
        ["/?q=%00", "/packages/99999999999999999999", "/packages/9223372036854775807", "/authors/x"]
    {
        postgres.get(address).refused(address);
    }
    postgres.post(&serde, "description=%00&keywords=").refused("a zero");

    let edited = postgres.post(&serde, "description=Written+to+Postgres&keywords=new");
    assert_eq!(edited.status, 303);
    for mode in MODES {
        assert!(postgres.get(&in_mode("/?q=serde", mode)).page().contains("Written to Postgres"), "{mode}");
    }
    assert_eq!(postgres.signal("-INT").status.code(), Some(0));
    let again = Explorer::start(&["--postgres", &url]);
    assert!(again.get(&serde).page().contains("Written to Postgres"), "it is found, and not filled again");

    let refused = |url: &str, word: &str| {
        line(&ended(demo(&["serve", "--port", "0", "--postgres", url]).spawn().unwrap()), 1, word);
    };
    refused(&url.replace("/packages", "/nowhere"), "database \"nowhere\" does not exist");
    refused(&url.replace("demo@", "nobody@"), "role \"nobody\" does not exist");
}

#[test]
fn no_page_over_postgres_is_stale_after_an_acknowledged_edit() {
    let Some(server) = Postgres::start() else { return };
    web::load::under_load(&["--postgres", &server.url()]);
}
