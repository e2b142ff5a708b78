//! A master with a replica, and sentinels that watch them.

use futures_util::future::join_all;

use super::redis::{RedisServer, url_of_all};
use super::resp::Reply;
use super::wait;

/// By this name the sentinels know the master.
const NAME: &str = "mastaba";

/// What clients ask.
const WHERE: [&str; 3] = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME];

/// A master, a replica, and three sentinels of which two must agree. Dropping it kills them all.
#[derive(Debug)]
pub struct Sentinels {
    sentinels: Vec<RedisServer>,
    replica: RedisServer,
    master: RedisServer,
}

impl Sentinels {
    /// Starts them and waits until the sentinels know each other and the replica, which takes about two seconds. They
    /// take the master for dead after half a second of silence. `None` when no server is installed: see
    /// [`missing`](super::missing).
    ///
    /// # Panics
    ///
    /// When they do not start.
    pub async fn start() -> Option<Self> {
        Self::launch(None).await
    }

    /// The same with a password for the user `default` of the servers, and another one at the sentinels.
    ///
    /// # Panics
    ///
    /// When they do not start.
    pub async fn start_with_passwords(servers: &str, sentinels: &str) -> Option<Self> {
        Self::launch(Some([servers, sentinels])).await
    }

    async fn launch(passwords: Option<[&str; 2]>) -> Option<Self> {
        let shape = RedisServer::builder().replicated();
        let shape = match passwords {
            Some([password, _]) => shape.password(password),
            None => shape,
        };
        let master = shape.clone().start().await?;
        let port = master.port();
        let replica = shape.set("replicaof", &format!("127.0.0.1 {port}")).start().await?;
        wait::until("a replica", async || replica.is_linked().await).await;
        let watch = RedisServer::builder()
            .sentinel()
            .set("sentinel", &format!("monitor {NAME} 127.0.0.1 {port} 2"))
            .set("sentinel", &format!("down-after-milliseconds {NAME} 500"))
            .set("sentinel", &format!("failover-timeout {NAME} 3000"));
        let watch = match passwords {
            Some([servers, sentinels]) => watch
                .set("sentinel", &format!("auth-pass {NAME} {servers}"))
                .set("sentinel", &format!("sentinel-pass {sentinels}"))
                .password(sentinels),
            None => watch,
        };
        let sentinels = join_all((0..3).map(|_| watch.clone().start())).await;
        let sentinels = Self { sentinels: sentinels.into_iter().collect::<Option<_>>()?, replica, master };
        sentinels.pace("100").await;
        wait::until("sentinels that know each other", async || sentinels.are_ready().await).await;
        sentinels.pace("2000").await;
        Some(sentinels)
    }

    /// They look every tenth of a second for what has become of a server, and as often for each other until they have
    /// found each other. Later that would make one of them undo what another one has just begun: it waits as long as
    /// others need to report it.
    async fn pace(&self, publish: &str) {
        for sentinel in &self.sentinels {
            // one that does not know this is only slower
            for (period, value) in [("info-period", "100"), ("publish-period", publish)] {
                sentinel.command(&["SENTINEL", "DEBUG", period, value]).await;
            }
        }
    }

    async fn are_ready(&self) -> bool {
        let ready = self.sentinels.iter().map(|sentinel| async {
            let master = sentinel.call(&["SENTINEL", "MASTER", NAME]).await.unwrap_or(Reply::Nil);
            let replicas = sentinel.command(&["SENTINEL", "REPLICAS", NAME]).await;
            field(&master, "num-slaves") == "1"
                && field(&master, "num-other-sentinels") == "2"
                && field(&master, "flags") == "master"
                && replicas.contains("master-link-status\nok")
        });
        join_all(ready).await.into_iter().all(|ready| ready)
    }

    /// The name of the master for which clients ask the sentinels.
    pub fn name(&self) -> &'static str {
        NAME
    }

    /// Where clients of `mastaba-redis` connect: `redis-sentinel://`, the sentinels, and the name of the master. No
    /// password is in it.
    pub fn url(&self) -> String {
        format!("{}/{}", url_of_all("sentinel", &self.sentinels), self.name())
    }

    /// One of the sentinels 0, 1 and 2.
    pub fn sentinel(&self, index: usize) -> &RedisServer {
        &self.sentinels[index]
    }

    /// The master, as it was at the start.
    pub fn master(&self) -> &RedisServer {
        &self.master
    }

    /// The replica, as it was at the start.
    pub fn replica(&self) -> &RedisServer {
        &self.replica
    }

    /// Cuts the replica off from the master while the sentinels still see both: what is written from now on is lost
    /// with the master.
    ///
    /// # Panics
    ///
    /// When the master does not answer.
    pub async fn stop_replication(&self) {
        self.master.replicate(false).await;
    }

    /// Lets the replica catch up, and waits until it has.
    ///
    /// # Panics
    ///
    /// When a server does not answer.
    pub async fn resume_replication(&self) {
        self.master.replicate(true).await;
        wait::until("a replica that catches up", async || self.replica.is_linked().await).await;
    }

    /// Has the sentinels replace the master in order, and waits until they have.
    ///
    /// # Panics
    ///
    /// When it does not happen.
    pub async fn failover(&self) {
        let old = address(&self.master);
        wait::until("a failover", async || {
            // refused while one is under way, or while the replica does not look good enough; one may come to nothing
            let _ = self.sentinels[0].command(&["SENTINEL", "FAILOVER", NAME]).await;
            tokio::time::sleep(wait::PAUSE).await;
            self.sentinels[0].command(&WHERE).await != old
        })
        .await;
        self.wait_for_failover().await;
    }

    /// Waits until the replica is the master in its own eyes and in those of all sentinels that run. After the death
    /// of the master it takes one to three seconds.
    ///
    /// # Panics
    ///
    /// When it does not happen.
    pub async fn wait_for_failover(&self) {
        let new = address(&self.replica);
        wait::until("a failover", async || {
            let running = self.sentinels.iter().filter(|sentinel| sentinel.pid().is_some());
            let asked = running.map(|sentinel| sentinel.command(&WHERE));
            let known = join_all(asked).await.iter().all(|answer| *answer == new);
            known && self.replica.is_master().await
        })
        .await;
    }
}

/// As sentinels give it.
fn address(server: &RedisServer) -> String {
    format!("127.0.0.1\n{}", server.port())
}

/// A field of a list of names and values.
fn field(list: &Reply, name: &str) -> String {
    let pairs = list.list().chunks_exact(2);
    pairs.filter(|pair| pair[0].to_string() == name).map(|pair| pair[1].to_string()).collect()
}
