-- Forgets the oldest events of one partition (LEDGER §9). Sequence numbers are never given out again.
--
-- KEYS  1 the outbox, a list; 2 how many events were trimmed from its head
-- ARGV  1 the highest sequence number to forget
-- Gives how many events were forgotten.

local trimmed = tonumber(redis.call('GET', KEYS[2]) or 0)
local count = math.min(tonumber(ARGV[1]) - trimmed, redis.call('LLEN', KEYS[1]))
if count <= 0 then return 0 end
redis.call('LTRIM', KEYS[1], count, -1)
redis.call('INCRBY', KEYS[2], count)
return count
