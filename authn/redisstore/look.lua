-- What followed an entry of the changes, and whether the set is still the one
-- that it was in. Reads only, unless the set or the server is new.
-- KEYS: set, changes, epoch
-- ARGV: echo, entry, its nonce, page, settle (ms), a nonce to begin with
-- Returns: echo, state, server, epoch, milliseconds until the set can be believed,
-- last entry, its nonce, then entry, member, score, nonce of each that followed
local echo, after, word, page, settle = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local run = ''
local info = redis.pcall('INFO', 'server')
if type(info) == 'string' then run = string.match(info, 'run_id:(%w+)') or '' end

local epoch = redis.call('HMGET', KEYS[3], 'id', 'run', 'until')
local id = epoch[1]
local state = 'ok'
local marked = id and redis.call('ZSCORE', KEYS[1], 'epoch ' .. id)
local rest = (tonumber(epoch[3] or '') or 0) - now
if not marked or epoch[2] ~= run or rest > settle or redis.call('EXISTS', KEYS[2]) == 0 then
  local failed
  local function write(...)
    if failed then return end
    local reply = redis.pcall(...)
    if type(reply) == 'table' and reply.err then failed = reply.err end
  end
  if not marked then id = ARGV[6] end
  write('HSET', KEYS[3], 'id', id, 'run', run, 'until', string.format('%.0f', now + settle))
  write('ZADD', KEYS[1], '+inf', 'epoch ' .. id)
  write('XADD', KEYS[2], '*', 'n', ARGV[6])
  if failed and not marked then return redis.error_reply(failed) end
  rest = settle
  -- It could not be written down from when on to believe the set.
  if failed then state = 'unwritten' end
end

local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
local function field(entry, name)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == name then return entry[2][i + 1] end
  end
  return ''
end
local reply = {echo, state, run, id, string.format('%.0f', math.max(rest, 0)),
  last and last[1] or '0-0', last and field(last, 'n') or ''}
if after == '' then return reply end
if after == '0-0' then
  if last then reply[2] = 'gap' end
  return reply
end
local at = redis.call('XRANGE', KEYS[2], after, after)[1]
if not at or field(at, 'n') ~= word then
  reply[2] = 'gap'
  return reply
end
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '(' .. after, '+', 'COUNT', page)) do
  reply[#reply + 1] = entry[1]
  reply[#reply + 1] = field(entry, 'm')
  reply[#reply + 1] = field(entry, 'x')
  reply[#reply + 1] = field(entry, 'n')
end
return reply
