//! The scripts: each looks at a key and changes it, in one step. The one that fills does so with many, one after another,
//! where no cluster forbids it.
//!
//! Offsets are those of [`mastaba::entry`], counted from one as Lua does: magic 1 to 2, layout and kind 3, fence 4 to 11,
//! incarnation 12 to 17. The third byte is 64 to 79 in a value, up to 95 in an absence, up to 111 in a lease, 112 (`p`) in a
//! hold.

/// A script with its digest.
pub(crate) struct Script {
    pub(crate) body: &'static str,
    digest: std::sync::OnceLock<String>,
}

impl Script {
    const fn new(body: &'static str) -> Self {
        Self { body, digest: std::sync::OnceLock::new() }
    }

    pub(crate) fn digest(&self) -> &str {
        self.digest.get_or_init(|| sha1_smol::Sha1::from(self.body).digest().to_string())
    }
}

/// Whether `r`, which is the start of a record, has this fence (`R1`) and this incarnation (`R11`), and is no hold.
macro_rules! may_be_replaced {
    ($fence:literal, $incarnation:literal) => {
        concat!(
            "#r == 17 and sub(r, 4, 11) == ",
            $fence,
            " and sub(r, 12, 17) == ",
            $incarnation,
            " and sub(r, 1, 2) == 'Mt' and byte(r, 3) >= 64 and byte(r, 3) <= 111"
        )
    };
}

/// `incarnation, fence, record, milliseconds`: stores over a record that may be replaced. Answers 1 where it was stored.
pub(crate) static FILL: Script = Script::new(concat!(
    "local sub, byte = string.sub, string.byte
local r = redis.call('GETRANGE', KEYS[1], 0, 16)
if not (",
    may_be_replaced!("ARGV[2]", "ARGV[1]"),
    ") then return 0 end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
return 1",
));

/// The same for several keys: `incarnation`, and for each key `fence, record, milliseconds`. Answers with a digit for each.
///
/// Each key is compared by itself, and one of another type is refused alone. The only error that a `SET` can come to is
/// that memory is full, and the server looks at that once, before anything is stored.
pub(crate) static FILLS: Script = Script::new(concat!(
    "local get, set, sub, byte = redis.pcall, redis.call, string.sub, string.byte
local keys, words, incarnation, done = KEYS, ARGV, ARGV[1], {}
for at = 1, #keys do
  local r, mine = get('GETRANGE', keys[at], 0, 16), 3 * at - 1
  done[at] = 0
  if type(r) == 'table' then
    if sub(r.err, 1, 9) ~= 'WRONGTYPE' then return r end
  elseif ",
    may_be_replaced!("words[mine]", "incarnation"),
    " then
    set('SET', keys[at], words[mine + 1], 'PX', words[mine + 2])
    done[at] = 1
  end
end
return table.concat(done)",
));

/// The first key is a record of stamps, the others are to be stored without a lease: `incarnation`, and for each key `place,
/// stamp, fence, record, milliseconds`. Stores where the stamp is still this one, and nothing stands, or the record with
/// this fence; an empty fence is none (`R15`). Answers as the one before.
///
/// A record that is missing, of another length or another type says nothing, and a stamp that is zero is none.
pub(crate) static FILLS_UNLEASED: Script = Script::new(concat!(
    "local get, set, sub, byte = redis.pcall, redis.call, string.sub, string.byte
local keys, words, incarnation, done = KEYS, ARGV, ARGV[1], {}
local w = get('GET', keys[1])
if type(w) ~= 'string' or #w ~= 128 then w = '' end
for at = 2, #keys do
  local mine = 5 * at - 8
  local place, stamp, fence = tonumber(words[mine]), words[mine + 1], words[mine + 2]
  done[at - 1] = 0
  if sub(w, place + 1, place + 8) == stamp and stamp ~= string.rep('\\0', 8) then
    if set('SET', keys[at], words[mine + 3], 'NX', 'PX', words[mine + 4]) then
      done[at - 1] = 1
    elseif fence ~= '' then
      local r = get('GETRANGE', keys[at], 0, 16)
      if type(r) == 'string' and ",
    may_be_replaced!("fence", "incarnation"),
    " then
        set('SET', keys[at], words[mine + 3], 'PX', words[mine + 4])
        done[at - 1] = 1
      end
    end
  end
end
return table.concat(done)",
));

/// `fence, lease, milliseconds`: places the lease where nothing stands, or a record with that fence that is not a
/// hold; gives what stands there otherwise.
pub(crate) static LEASE_OVER: Script = Script::new(
    "local r = redis.call('GET', KEYS[1])
if r then
  local kind = #r >= 17 and string.sub(r, 1, 2) == 'Mt' and string.byte(r, 3) or 0
  if kind < 64 or kind > 111 or string.sub(r, 4, 11) ~= ARGV[1] then return r end
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return false",
);

/// A function that renews a stamp, in each of the records of stamps from `KEYS[from]` on (`R16`): the number stands at a
/// place, counted from zero. What is no such record is removed, and so is one that cannot be written because memory is
/// full: without it nothing is stored without a lease. Gives the error of a record that could be neither.
macro_rules! renew {
    () => {
        "local function renew(from, place, number)
  local failed
  for at = from, #KEYS do
    local w = redis.pcall('GET', KEYS[at])
    if w then
      local set = type(w) == 'string' and #w == 128
        and redis.pcall('SET', KEYS[at], string.sub(w, 1, place) .. number .. string.sub(w, place + 9))
      if not set or set.err then
        local gone = redis.pcall('UNLINK', KEYS[at])
        if type(gone) == 'table' then failed = gone end
      end
    end
  end
  return failed
end
"
    };
}

/// `place, number`: renews a stamp in all of the keys, which are records of stamps.
pub(crate) static RENEW: Script =
    Script::new(concat!(renew!(), "return renew(1, tonumber(ARGV[1]), ARGV[2]) or 1"));

/// `record`: makes a record of stamps, unless one stands there that says something of every key.
pub(crate) static MAKE_STAMPS: Script = Script::new(
    "local w = redis.pcall('GET', KEYS[1])
local whole = type(w) == 'string' and #w == #ARGV[1]
for at = 1, whole and #w or 0, 8 do
  if string.sub(w, at, at + 7) == string.rep('\\0', 8) then whole = false end
end
if not whole then redis.call('SET', KEYS[1], ARGV[1]) end
return 1",
);

/// `place, number`: renews the stamp of the first key in the other keys, which are records of stamps, and then removes
/// whatever stands under it, which notifies listeners also where nothing does; answers 1 for a hold, which the caller has to
/// make forget what it keeps. Where the stamp could not be renewed the key is removed, and the answer is an error (`R16`).
pub(crate) static INVALIDATE: Script = Script::new(concat!(
    renew!(),
    "local failed = #KEYS > 1 and renew(2, tonumber(ARGV[1]), ARGV[2])
local r = redis.pcall('GETRANGE', KEYS[1], 0, 2)
if r == 'Mtp' then return failed or 1 end
if redis.call('UNLINK', KEYS[1]) == 0 then
  redis.pcall('SET', KEYS[1], '', 'PX', 1)
  redis.call('UNLINK', KEYS[1])
end
return failed or 0",
));

/// `before, after, milliseconds, place, number`: puts `after` in the place of exactly `before`. An empty `before` stands for
/// nothing, an empty `after` removes, 0 milliseconds are for ever. Where it does, it first renews the stamp of the first key
/// in the other keys, which are records of stamps; where that fails, it does nothing else (`R17`).
pub(crate) static SWAP: Script = Script::new(concat!(
    renew!(),
    "local r = redis.call('GET', KEYS[1])
if (r or '') ~= ARGV[1] then return 0 end
local failed = #KEYS > 1 and renew(2, tonumber(ARGV[4]), ARGV[5])
if failed then return failed end
if ARGV[2] == '' then
  redis.call('UNLINK', KEYS[1])
elseif ARGV[3] == '0' then
  redis.call('SET', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1",
));
