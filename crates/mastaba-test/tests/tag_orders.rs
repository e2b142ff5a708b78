//! Tags of a value, in every interleaving: the proof behind `docs/decisions/0005-tags-of-a-value.md`.
//!
//! A reader takes the epoch with its lease, loads, reads the stamp of the tag that the row turned out to
//! have, and the epoch again, and stores if the epoch is the same. A writer commits, renews the epoch, renews
//! the stamp, and is acknowledged. Each of these is one step, and all orders of all steps are walked through.

/// The database, the stamps, the entry.
#[derive(Clone, Copy)]
struct World {
    version: u32,
    epoch: u32,
    stamp: u32,
    next: u32,
    /// Version and stamp.
    entry: Option<(u32, u32)>,
}

#[derive(Clone, Copy, Default)]
struct Reader {
    step: usize,
    epoch: u32,
    version: u32,
    stamp: u32,
    again: u32,
}

#[derive(Clone, Copy, Default)]
struct Writer {
    step: usize,
}

/// The orders that are compared.
#[derive(Clone, Copy)]
struct Orders {
    /// A fill reads the stamp before the epoch.
    stamp_then_epoch: bool,
    /// An invalidation renews the epoch before the stamp.
    epoch_then_stamp: bool,
    /// A fill looks at the epoch at all.
    guarded: bool,
}

const RIGHT: Orders = Orders { stamp_then_epoch: true, epoch_then_stamp: true, guarded: true };

impl Reader {
    fn advance(&mut self, world: &mut World, orders: Orders) -> bool {
        match (self.step, orders.stamp_then_epoch) {
            (0, _) => self.epoch = world.epoch,
            (1, _) => self.version = world.version,
            (2, true) | (3, false) => self.stamp = world.stamp,
            (3, true) | (2, false) => self.again = world.epoch,
            (4, _) => {
                if !orders.guarded || self.epoch == self.again {
                    world.entry = Some((self.version, self.stamp));
                }
            }
            _ => return false,
        }
        self.step += 1;
        true
    }
}

impl Writer {
    fn advance(&mut self, world: &mut World, orders: Orders) -> bool {
        match (self.step, orders.epoch_then_stamp) {
            (0, _) => world.version += 1,
            (1, true) | (2, false) => world.epoch = fresh(world),
            (1, false) | (2, true) => world.stamp = fresh(world),
            _ => return false,
        }
        self.step += 1;
        true
    }
}

fn fresh(world: &mut World) -> u32 {
    world.next += 1;
    world.next
}

/// Walks every order; counts those in which, with all writes acknowledged, an older version is served.
fn walk(world: World, readers: &[Reader], writers: &[Writer], orders: Orders) -> (u64, u64) {
    let (mut ends, mut stale) = (0, 0);
    let mut moved = false;
    for at in 0..readers.len() {
        let (mut world, mut readers) = (world, readers.to_vec());
        if readers[at].advance(&mut world, orders) {
            moved = true;
            let below = walk(world, &readers, writers, orders);
            (ends, stale) = (ends + below.0, stale + below.1);
        }
    }
    for at in 0..writers.len() {
        let (mut world, mut writers) = (world, writers.to_vec());
        if writers[at].advance(&mut world, orders) {
            moved = true;
            let below = walk(world, readers, &writers, orders);
            (ends, stale) = (ends + below.0, stale + below.1);
        }
    }
    if moved {
        return (ends, stale);
    }
    let served = world.entry.filter(|(_, stamp)| *stamp == world.stamp);
    (1, u64::from(served.is_some_and(|(version, _)| version != world.version)))
}

fn stale(readers: usize, writers: usize, orders: Orders) -> u64 {
    let world = World { version: 0, epoch: 1, stamp: 2, next: 2, entry: None };
    let (ends, stale) =
        walk(world, &vec![Reader::default(); readers], &vec![Writer::default(); writers], orders);
    assert!(ends > 50, "only {ends} orders were walked");
    stale
}

#[test]
fn no_order_of_two_writers_and_a_reader_leaves_a_stale_entry() {
    assert_eq!(stale(1, 2, RIGHT), 0);
}

#[test]
fn no_order_of_a_writer_and_two_readers_leaves_a_stale_entry() {
    assert_eq!(stale(2, 1, RIGHT), 0);
}

#[test]
fn without_the_epoch_a_stale_entry_stays() {
    assert!(stale(1, 1, Orders { guarded: false, ..RIGHT }) > 0);
}

#[test]
fn with_the_stamp_renewed_before_the_epoch_a_stale_entry_stays() {
    assert!(stale(1, 1, Orders { epoch_then_stamp: false, ..RIGHT }) > 0);
}

#[test]
fn with_the_epoch_read_before_the_stamp_a_stale_entry_stays() {
    assert!(stale(1, 1, Orders { stamp_then_epoch: false, ..RIGHT }) > 0);
}
