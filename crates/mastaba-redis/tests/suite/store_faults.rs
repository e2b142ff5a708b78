//! The store forgets, or remembers what was voided: flushed, restarted empty, restarted from an old dump (R11),
//! flushed of its scripts.

use crate::common;

use std::sync::Arc;
use std::time::Duration;

use common::load::{Load, Oracle, all_current};
use common::{Process, Stage, limited};
use mastaba::Region;
use mastaba_test::servers::RedisServer;
use mastaba_test::world::{Db, UserById};

mastaba_test::every_outage!(store crate::common::OverRedis);

/// The store comes back with what it had before the write was acknowledged. The lease of a load from before is
/// among it.
#[tokio::test]
async fn what_an_old_dump_brings_back_is_never_served() {
    limited(async {
        let shape = RedisServer::builder().persistent();
        let leases = |region: Region| region.fill_without_lease(false);
        let Some(stage) = Stage::over(shape, leases).await else { return };
        for process in stage.both() {
            assert_eq!(process.warm(1).await, 0);
        }
        let request = stage.far.request();
        let gate = stage.db.close_gate();
        let (late, ()) = tokio::join!(request.get::<UserById>(2), async {
            gate.arrived(1).await;
            gate.only_those_here();
            assert_eq!(stage.server.command(&["SAVE"]).await, "OK");
            for key in [1, 2] {
                stage.other.write(key).await.unwrap();
            }
            stage.both_see(1).await;
            stage.server.kill().await;
            stage.server.restart().await;
            assert!(stage.stands(1).await, "the old value is back");
            assert!(stage.stands(2).await, "the old lease is back");
            stage.both_see(1).await;
            // a read of the far process would wait for the load that the gate holds back
            assert_eq!(stage.other.sees(2).await, 1);
            gate.open();
        });
        assert_eq!(late.unwrap().unwrap().version, 0, "it began before the write");
        stage.far.cache.idle().await;
        let newcomer = Process::start(&stage.server.url(), &stage.db).await;
        for key in [1, 2] {
            stage.both_see(key).await;
            assert_eq!(
                newcomer.sees(key).await,
                stage.db.version(key),
                "a process that was started after it"
            );
            stage.recovers(key).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_old_dump_comes_back_again_and_again_while_others_read_and_write() {
    limited(async {
        let Some(server) = RedisServer::builder().persistent().start().await else { return };
        let (db, oracle) = (Arc::new(Db::default()), Oracle::new(8));
        let mut processes = Vec::new();
        for _ in 0..2 {
            processes.push((Arc::new(Process::start(&server.url(), &db).await), Duration::ZERO));
        }
        let load = Load::start(&oracle, &processes, 1);
        load.goes_on(100, 20).await;
        server.command(&["SAVE"]).await;
        for _ in 0..3 {
            load.goes_on(100, 20).await;
            server.kill().await;
            load.goes_on(20, 0).await;
            server.restart().await;
        }
        load.goes_on(100, 20).await;
        load.stop().await;
        oracle.assert_sound();
        all_current(&processes[0].0, &db, &oracle).await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_forgets_its_scripts_learns_them_again() {
    limited(async {
        let Some(stage) = Stage::new().await else { return };
        stage.recovers(1).await;
        for _ in 0..3 {
            stage.server.command(&["SCRIPT", "FLUSH"]).await;
            stage.other.write(1).await.unwrap();
            stage.server.command(&["SCRIPT", "FLUSH"]).await;
            assert_eq!(stage.far.warm(1).await, stage.db.version(1), "filled");
            stage.both_see(1).await;
        }
        for process in stage.both() {
            assert_eq!(process.events(), [""; 0], "nobody noticed");
        }
    })
    .await;
}

#[tokio::test]
async fn scripts_may_be_forgotten_in_the_middle_of_batches() {
    limited(async {
        let Some(stage) = Stage::new().await else { return };
        let ids = || 1..=300;
        let forget = async {
            loop {
                stage.server.command(&["SCRIPT", "FLUSH"]).await;
                tokio::task::yield_now().await;
            }
        };
        let work = async {
            for _ in 0..10 {
                ids().for_each(|id| {
                    stage.db.update(id);
                });
                stage.other.request().invalidate::<UserById>(ids()).await.unwrap();
                for process in stage.both() {
                    let users = process.request().get_many::<UserById>(ids()).await.unwrap();
                    let versions: Vec<_> = users.found().map(|(id, user)| (*id, user.version)).collect();
                    assert_eq!(versions, ids().map(|id| (id, stage.db.version(id))).collect::<Vec<_>>());
                    process.cache.idle().await;
                }
            }
        };
        tokio::select! { () = forget => {}, () = work => {} }
        stage.recovers(1).await;
        for process in stage.both() {
            assert_eq!(common::faults(&process.events()).len(), 0);
        }
    })
    .await;
}
