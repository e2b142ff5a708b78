//! The programs that tests start: the one table of them.
//!
//! The test command installs what stands here (`xtask` compiles this very file), and a test can ask for nothing else:
//! `missing` takes a [`Program`] and no name. Both look for a program by [`Program::find`].

use std::env;
use std::path::{Path, PathBuf};

/// A program that a test starts, and that a machine may lack.
///
/// ```
/// use mastaba_test::servers::Program;
///
/// assert_eq!(Program::Chromedriver.name(), "chromedriver");
/// assert_eq!(Program::Chromedriver.package(), "chromium-driver");
/// assert!(Program::ALL.contains(&Program::Chromedriver));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// A Redis; `MASTABA_REDIS_SERVER` may name another one (a Valkey, say) by its name or its path.
    RedisServer,
    /// The client that comes with it.
    RedisCli,
    /// Makes the folder of a PostgreSQL.
    Initdb,
    /// A PostgreSQL.
    Postgres,
    /// Copies the folder of a PostgreSQL that runs.
    PgBasebackup,
    /// Makes the folder of a MariaDB.
    MariadbInstallDb,
    /// A MariaDB.
    Mariadbd,
    /// A browser.
    Chromium,
    /// What drives it.
    Chromedriver,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::RedisServer,
        Self::RedisCli,
        Self::Initdb,
        Self::Postgres,
        Self::PgBasebackup,
        Self::MariadbInstallDb,
        Self::Mariadbd,
        Self::Chromium,
        Self::Chromedriver,
    ];

    /// What it is called on the path.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RedisServer => "redis-server",
            Self::RedisCli => "redis-cli",
            Self::Initdb => "initdb",
            Self::Postgres => "postgres",
            Self::PgBasebackup => "pg_basebackup",
            Self::MariadbInstallDb => "mariadb-install-db",
            Self::Mariadbd => "mariadbd",
            Self::Chromium => "chromium",
            Self::Chromedriver => "chromedriver",
        }
    }

    /// The Debian package that brings it.
    pub const fn package(self) -> &'static str {
        match self {
            Self::RedisServer => "redis-server",
            Self::RedisCli => "redis-tools",
            Self::Initdb | Self::Postgres | Self::PgBasebackup => "postgresql",
            Self::MariadbInstallDb | Self::Mariadbd => "mariadb-server",
            Self::Chromium => "chromium",
            Self::Chromedriver => "chromium-driver",
        }
    }

    /// The environment variable that names another program to be started in its place.
    const fn instead(self) -> Option<&'static str> {
        match self {
            Self::RedisServer => Some("MASTABA_REDIS_SERVER"),
            _ => None,
        }
    }

    /// Where it is, if it is installed: on the path, or where Debian puts what is not on the path of everybody.
    pub fn find(self) -> Option<PathBuf> {
        let instead = self.instead().and_then(env::var_os).filter(|value| !value.is_empty());
        match instead.map(PathBuf::from) {
            Some(path) if path.components().count() > 1 => Some(path).filter(|path| path.is_file()),
            Some(name) => find(&name),
            None => find(Path::new(self.name())),
        }
    }
}

fn find(name: &Path) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/local/bin", "/usr/sbin"].map(PathBuf::from));
    folders.chain(postgres()).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Debian keeps the programs of each PostgreSQL in a folder of its own, off the path. The newest comes first.
fn postgres() -> Vec<PathBuf> {
    let Ok(versions) = Path::new("/usr/lib/postgresql").read_dir() else { return Vec::new() };
    let mut folders: Vec<PathBuf> = versions.flatten().map(|version| version.path()).collect();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    folders.sort_by_key(|path| std::cmp::Reverse(number(path)));
    folders.iter().map(|folder| folder.join("bin")).collect()
}
