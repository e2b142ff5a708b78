//! The scripts: each looks at one key and changes it, in one step.
//!
//! Offsets are those of [`mastaba::entry`], counted from one as Lua does: magic and layout version 1 to 3, kind 4,
//! fence 9 to 16, incarnation 25 to 32.

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

/// `fence, incarnation, record, milliseconds`: stores where the fence is still that one (`R1`), of a record of this
/// incarnation (`R11`) that is not a hold.
pub(crate) static FILL: Script = Script::new(
    "local r = redis.call('GETRANGE', KEYS[1], 0, 87)
if #r < 88 or string.sub(r, 1, 3) ~= 'Mt\\1' then return 0 end
local kind = string.byte(r, 4)
if kind < 1 or kind > 3 then return 0 end
if string.sub(r, 9, 16) ~= ARGV[1] or string.sub(r, 25, 32) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
return 1",
);

/// `fence, lease, milliseconds`: places the lease where nothing stands, or a record with that fence that is not a
/// hold; gives what stands there otherwise.
pub(crate) static LEASE_OVER: Script = Script::new(
    "local r = redis.call('GET', KEYS[1])
if r then
  local kind = #r >= 88 and string.sub(r, 1, 3) == 'Mt\\1' and string.byte(r, 4) or 0
  if kind < 1 or kind > 3 or string.sub(r, 9, 16) ~= ARGV[1] then return r end
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return false",
);

/// No arguments: removes whatever stands there, and tells listeners also where nothing does; answers 1
/// for a hold, which the caller has to make forget what it keeps.
pub(crate) static INVALIDATE: Script = Script::new(
    "local r = redis.pcall('GETRANGE', KEYS[1], 0, 3)
if r == 'Mt\\1\\4' then return 1 end
if redis.call('UNLINK', KEYS[1]) == 0 then
  redis.pcall('SET', KEYS[1], '', 'PX', 1)
  redis.call('UNLINK', KEYS[1])
end
return 0",
);

/// `before, after, milliseconds`: puts `after` in the place of exactly `before`. An empty `before` stands for nothing,
/// an empty `after` removes, 0 milliseconds are for ever.
pub(crate) static SWAP: Script = Script::new(
    "local r = redis.call('GET', KEYS[1])
if (r or '') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then
  redis.call('UNLINK', KEYS[1])
elseif ARGV[3] == '0' then
  redis.call('SET', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1",
);
