-- Adds to the set and tells of what is new, as one step. A little of what has
-- expired goes at the same time, so that the set cannot grow for ever.
-- KEYS: set, changes, epoch
-- ARGV: echo, length of the changes, milliseconds for which more is coming, then
-- member, score, nonce of each
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. t[1], 'LIMIT', 0, 100)
for i = 4, #ARGV, 3 do
  if redis.call('ZADD', KEYS[1], 'GT', 'CH', ARGV[i + 1], ARGV[i]) == 1 then
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'm', ARGV[i], 'x', ARGV[i + 1], 'n', ARGV[i + 2])
  end
end
if tonumber(ARGV[3]) > 0 then
  redis.call('HSET', KEYS[3], 'until', string.format('%.0f', now + tonumber(ARGV[3])))
end
if #old > 0 then redis.call('ZREM', KEYS[1], unpack(old)) end
return ARGV[1]
