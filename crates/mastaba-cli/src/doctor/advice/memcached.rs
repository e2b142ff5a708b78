//! What to change on Memcached.

use mastaba_memcached::MemcachedConfig;

use super::{advice, are_here};
use crate::doctor::report::{Advice, Examined, Level, OfMemcached, Own};

/// What a server takes unless it is told otherwise.
const USUAL_ITEM: u64 = 1 << 20;
/// What begins its CAS numbers with 1 after each restart is older.
const NEWER_NUMBERS: [u32; 3] = [1, 6, 27];
/// Every connection is used after so many seconds at the latest: the library asks for the list of servers.
const USED_AFTER_S: u64 = 2;

/// Another list of servers.
pub(crate) fn of_refusal(why: Option<String>) -> Option<Advice> {
    why.map(|why| advice(Level::Problem, "list of servers", why))
}

/// Who else may be on the way to the servers.
pub(crate) fn of_reach(config: &MemcachedConfig) -> Option<Advice> {
    let sentence = "whoever reaches a Memcached reads and changes what is stored, which travels unencrypted: let it listen in a network \
                    of its own (-l), or behind a tunnel";
    let here = are_here(config.servers.iter().map(|(host, _)| host.as_str()));
    (!here).then(|| advice(Level::Note, "access", sentence))
}

/// What a server could have, by what it said twice, a moment apart.
pub(crate) fn of_server(before: &Examined, now: &Examined) -> Vec<Advice> {
    let Own::Memcached(own) = &now.own else { return Vec::new() };
    if let Some(why) = &own.down {
        let sentence = format!(
            "{} cannot be used: what has its place there is read from the source, and no write of it is published; a region whose \
             stamp has its place there reads from the source altogether. {why}",
            now.place
        );
        return vec![advice(Level::Problem, "server", sentence)];
    }
    let mut all = Vec::new();
    if older(now.version.as_deref().unwrap_or_default()) {
        let sentence = "before 1.6.27 its CAS numbers begin with 1 after each restart. This library takes each of them from the connection \
                        that it uses it on, so it is safe; other clients may not be. The tests run 1.6.38: use a version from 1.6.27 on";
        all.push(advice(Level::Note, "version", sentence));
    }
    if own.item_size_max_bytes.is_some_and(|most| most < USUAL_ITEM) {
        let sentence = "it takes no item of the usual 1 MiB: a value that is larger than what it takes is answered and not stored, and an \
                        event says so; raise -I above your largest value";
        all.push(advice(Level::Warning, "item size", sentence));
    }
    all.extend(of_risen(before, now, own));
    all.extend(of_connections(own));
    all
}

fn of_risen(before: &Examined, now: &Examined, own: &OfMemcached) -> Vec<Advice> {
    let mut all = Vec::new();
    let Some(evicted) = now.evicted_keys.filter(|keys| *keys > 0) else { return all };
    let risen = evicted.saturating_sub(before.evicted_keys.unwrap_or(evicted));
    if risen > 0 {
        let sentence = format!(
            "{risen} items were evicted just now, while it was looked at: what is stored does not fit, and leases, holds and stamps go \
             with the rest; give it more memory (-m)"
        );
        all.push(advice(Level::Warning, "evictions", sentence));
    }
    if own.moves_memory == Some(false) {
        let sentence = "items are evicted, and memory does not move from items of one size to those of another (slab_reassign, \
                        slab_automove): those of one size may be evicted while there is room for others; switch it on, as it is unless set";
        all.push(advice(Level::Warning, "slabs", sentence));
    }
    all
}

fn of_connections(own: &OfMemcached) -> Vec<Advice> {
    let mut all = Vec::new();
    let raise = "raise -c: a program has one connection for each runtime and server";
    if own.connections_refused.is_some_and(|number| number > 0) {
        let sentence = format!("it has turned connections away, for it had as many as it may have: {raise}");
        all.push(advice(Level::Warning, "connections", sentence));
    } else if let (Some(open), Some(most)) = (own.connections, own.connections_limit)
        && open.saturating_mul(10) >= most.saturating_mul(8)
    {
        let sentence =
            format!("four fifths of the connections that it may have are open ({open} of {most}): {raise}");
        all.push(advice(Level::Warning, "connections", sentence));
    }
    if own.idle_timeout_s.is_some_and(|seconds| (1..=USED_AFTER_S).contains(&seconds)) {
        let sentence = "idle_timeout closes connections sooner than this library comes back to one (every two seconds), so they are made \
                        anew again and again: set it to 10 or more, or to 0";
        all.push(advice(Level::Warning, "idle timeout", sentence));
    }
    all
}

/// What the servers of a list have that should be the same.
pub(crate) fn of_list(servers: &[Examined]) -> Vec<Advice> {
    let mut all = Vec::new();
    let own = |server: &Examined| match &server.own {
        Own::Memcached(OfMemcached { down: None, item_size_max_bytes, .. }) => *item_size_max_bytes,
        _ => None,
    };
    let mut sizes: Vec<u64> = servers.iter().filter_map(own).collect();
    sizes.sort_unstable();
    sizes.dedup();
    if sizes.len() > 1 {
        let sentence =
            "the servers do not take items of the same size (-I), and the smallest counts for all of them";
        all.push(advice(Level::Warning, "item size", sentence));
    }
    let mut limits: Vec<u64> = servers.iter().filter_map(|server| server.memory_limit_bytes).collect();
    limits.sort_unstable();
    limits.dedup();
    if limits.len() > 1 {
        let sentence = "the servers do not have the same memory (-m), and keys are spread over them evenly: the smallest evicts first";
        all.push(advice(Level::Warning, "memory", sentence));
    }
    all
}

fn older(version: &str) -> bool {
    let number = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
    let numbers: Option<Vec<u32>> = version.splitn(3, '.').map(number).collect();
    numbers.is_some_and(|numbers| numbers.len() == 3 && numbers[..] < NEWER_NUMBERS[..])
}

#[cfg(test)]
mod tests {
    use super::super::tests::levels;
    use super::*;

    fn server(evicted: u64, own: OfMemcached) -> Examined {
        Examined {
            version: Some("1.6.38".to_owned()),
            evicted_keys: Some(evicted),
            memory_limit_bytes: Some(64 << 20),
            own: Own::Memcached(own),
            ..Examined::default()
        }
    }

    fn of(own: OfMemcached) -> Vec<(Level, &'static str)> {
        levels(&of_server(&server(0, OfMemcached::default()), &server(0, own)))
    }

    #[test]
    fn a_server_as_it_comes_and_one_that_says_nothing_have_nothing_to_change() {
        assert_eq!(of(OfMemcached::default()), []);
        let usual = OfMemcached {
            item_size_max_bytes: Some(1 << 20),
            connections: Some(10),
            connections_limit: Some(1024),
            connections_refused: Some(0),
            idle_timeout_s: Some(0),
            moves_memory: Some(true),
            ..OfMemcached::default()
        };
        assert_eq!(of(usual), []);
    }

    #[test]
    fn what_is_too_small_is_said() {
        let small = OfMemcached { item_size_max_bytes: Some((1 << 20) - 1), ..OfMemcached::default() };
        assert_eq!(of(small), [(Level::Warning, "item size")]);
        let open = |open, refused| OfMemcached {
            connections: Some(open),
            connections_limit: Some(100),
            connections_refused: Some(refused),
            ..OfMemcached::default()
        };
        assert_eq!(of(open(79, 0)), []);
        assert_eq!([of(open(80, 0)), of(open(1, 1))], [[(Level::Warning, "connections")]; 2]);
        let idle = |seconds| OfMemcached { idle_timeout_s: Some(seconds), ..OfMemcached::default() };
        assert_eq!((of(idle(3)), of(idle(2))), (vec![], vec![(Level::Warning, "idle timeout")]));
    }

    #[test]
    fn evictions_are_warned_of_while_they_rise_and_where_memory_stays_where_it_is() {
        let risen = |before, now, moves| {
            let own = OfMemcached { moves_memory: Some(moves), ..OfMemcached::default() };
            levels(&of_server(&server(before, OfMemcached::default()), &server(now, own)))
        };
        assert_eq!((risen(0, 0, false), risen(7, 7, true)), (vec![], vec![]));
        assert_eq!(risen(7, 8, true), [(Level::Warning, "evictions")]);
        assert_eq!(risen(7, 7, false), [(Level::Warning, "slabs")]);
    }

    #[test]
    fn an_old_version_is_noted() {
        let of = |version: &str| {
            let now = Examined { version: Some(version.to_owned()), ..server(0, OfMemcached::default()) };
            levels(&of_server(&server(0, OfMemcached::default()), &now))
        };
        for old in ["1.6.18", "1.6.26_beta1", "1.6.9-debian"] {
            assert_eq!(of(old), [(Level::Note, "version")], "{old}");
        }
        for new in ["1.6.27", "1.6.38", "1.10.0", "2.0.0", "unheard of"] {
            assert_eq!(of(new), [], "{new}");
        }
    }

    #[test]
    fn servers_of_a_list_should_be_alike() {
        let sized = |most, limit| Examined {
            memory_limit_bytes: Some(limit),
            ..server(0, OfMemcached { item_size_max_bytes: Some(most), ..OfMemcached::default() })
        };
        assert_eq!(of_list(&[sized(1, 1), sized(1, 1)]), []);
        let differ = levels(&of_list(&[sized(1, 1), sized(2, 1), sized(1, 2)]));
        assert_eq!(differ, [(Level::Warning, "item size"), (Level::Warning, "memory")]);
        let down = OfMemcached { down: Some("gone".to_owned()), ..OfMemcached::default() };
        let without = Examined { memory_limit_bytes: None, ..server(0, down) };
        assert_eq!(of_list(&[sized(1, 1), without]), [], "what is not known does not differ");
    }

    #[test]
    fn who_is_on_another_machine_is_told_who_else_may_be() {
        let of = |url| of_reach(&MemcachedConfig::from_url(url).unwrap()).map(|it| it.level);
        assert_eq!(of("memcached://localhost,127.0.0.1:1,[::1]:2"), None);
        assert_eq!(of("memcached://localhost,cache.internal"), Some(Level::Note));
    }
}
