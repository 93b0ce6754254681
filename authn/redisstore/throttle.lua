-- Admits an attempt, or ends one.
-- KEYS: failures and attempts under way, of each count
-- ARGV: echo, then take, attempts' lifetime (ms), and the limit of each count
--       or the outcome, the window (ms)
-- Returns: echo, 1 if admitted, milliseconds to wait if not
local echo, what = ARGV[1], ARGV[2]
local function number(key) return tonumber(redis.call('GET', key) or '') or 0 end
if what == 'take' then
  local full = false
  for i = 1, #KEYS, 2 do
    local limit = tonumber(ARGV[3 + (i + 1) / 2])
    local failures = number(KEYS[i])
    if failures >= limit then return {echo, '0', tostring(math.max(redis.call('PTTL', KEYS[i]), 1))} end
    full = full or failures + number(KEYS[i + 1]) >= limit
  end
  if full then return {echo, '0', '0'} end
  for i = 2, #KEYS, 2 do
    redis.call('INCR', KEYS[i])
    redis.call('PEXPIRE', KEYS[i], ARGV[3])
  end
  return {echo, '1', '0'}
end
for i = 1, #KEYS, 2 do
  if number(KEYS[i + 1]) > 1 then redis.call('DECR', KEYS[i + 1]) else redis.call('DEL', KEYS[i + 1]) end
  if what == 'failed' then
    if redis.call('INCR', KEYS[i]) == 1 then redis.call('PEXPIRE', KEYS[i], ARGV[3]) end
  elseif what == 'passed' and i == 1 then
    redis.call('DEL', KEYS[i])
  end
end
return {echo, '1', '0'}
