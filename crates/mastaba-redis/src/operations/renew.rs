//! Write stamps: whoever changes a key for a write renews its stamp, in the same step (`R16` to `R18`).

use bytes::Bytes;
use mastaba::Fault;
use mastaba::shared::stamps::{self, StampKeys};

use super::Redis;
use crate::script::{self, Script};
use crate::wire::{Command, ServerReply};

impl Redis {
    /// Calls a script for one key. `renewing`: the stamp of the key is renewed as well, where it has one.
    pub(super) async fn run_renewing(
        &self,
        script: &'static Script,
        key: &Bytes,
        words: [Bytes; 3],
        renewing: bool,
    ) -> Result<ServerReply, Fault> {
        let hub = &self.inner.hub;
        let records = hub.stamps.all();
        let renewing = renewing && records.of(key).next().is_some();
        if !renewing {
            let command = Command::script(script, self.full(key), words);
            return Ok(self.run(vec![command]).await?.pop().unwrap_or(ServerReply::Nil));
        }
        if !hub.is_one_key() {
            let command = self.renewing(script, key, words.clone(), &records);
            let reply = self.run(vec![command]).await?.pop().unwrap_or(ServerReply::Nil);
            if !is_across(&reply) {
                return Ok(reply);
            }
            hub.one_key_from_now_on();
        }
        // before it, for an end, and after it, for a hold
        let mut commands = self.renewals(key, &records);
        let before = commands.len();
        commands.push(Command::script(script, self.full(key), words));
        commands.extend(self.renewals(key, &records));
        let mut replies = self.run(commands).await?;
        let done = replies.remove(before);
        Ok(replies.into_iter().find(|reply| *reply != ServerReply::Number(1)).unwrap_or(done))
    }

    /// Renews the stamp of each key and removes it, pair by pair. Gives the answer for each key, and whether some had to be
    /// sent again, so that they were carried out in no order.
    pub(super) async fn renew_and_remove(&self, keys: &[Bytes]) -> Result<(Vec<ServerReply>, bool), Fault> {
        let hub = &self.inner.hub;
        let records = hub.stamps.all();
        let mut again = false;
        if !hub.is_one_key() {
            let commands = keys.iter().map(|key| self.renewing(&script::INVALIDATE, key, [], &records));
            let (replies, some) = self.run_again(commands.collect()).await?;
            if !replies.iter().any(is_across) {
                return Ok((replies, some));
            }
            hub.one_key_from_now_on();
            again = true;
        }
        let mut commands = Vec::new();
        let mut counts = Vec::with_capacity(keys.len());
        for key in keys {
            let renewals = self.renewals(key, &records);
            counts.push(renewals.len());
            commands.extend(renewals);
            commands.push(Command::script(&script::INVALIDATE, self.full(key), []));
        }
        let (replies, some) = self.run_again(commands).await?;
        let mut replies = replies.into_iter();
        let answers = counts.into_iter().map(|renewals| {
            let unrenewed =
                replies.by_ref().take(renewals).filter(|reply| *reply != ServerReply::Number(1)).last();
            let removed = replies.next().unwrap_or(ServerReply::Nil);
            unrenewed.unwrap_or(removed)
        });
        Ok((answers.collect(), again || some))
    }

    /// A script for one key, which also renews its stamp, with a number that is drawn for this command alone (`R16`).
    fn renewing(
        &self,
        script: &'static Script,
        key: &Bytes,
        words: impl IntoIterator<Item = Bytes>,
        records: &StampKeys,
    ) -> Command {
        let mut all = vec![self.full(key)];
        all.extend(records.of(key).map(|record| self.full(record)));
        let keys = all.len();
        all.extend(words);
        if keys > 1 {
            all.extend(drawn(key));
        }
        Command::script_of(script, keys, all)
    }

    /// The renewals of a key as commands of their own, for a server that takes no script for two keys.
    fn renewals(&self, key: &Bytes, records: &StampKeys) -> Vec<Command> {
        let renew = |record| Command::script(&script::RENEW, self.full(record), drawn(key));
        records.of(key).map(renew).collect()
    }
}

/// The place of a key's stamp, and a new number for it.
fn drawn(key: &[u8]) -> [Bytes; 2] {
    [stamps::place(key).to_string().into(), Bytes::copy_from_slice(&stamps::number().to_le_bytes())]
}

fn is_across(reply: &ServerReply) -> bool {
    matches!(reply, ServerReply::Refused(code, _) if code == "CROSSSLOT")
}
