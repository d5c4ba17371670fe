-- A page of the outbox of one partition (LEDGER §9).
--
-- KEYS  1 the outbox, a list; 2 how many events were trimmed from its head
-- ARGV  1 the sequence number after which to begin; 2 at most so many events
-- Gives the sequence number of the first event of the page, and the list of events. Changes nothing.

local trimmed = tonumber(redis.call('GET', KEYS[2]) or 0)
local first = math.max(tonumber(ARGV[1]) - trimmed, 0)
return {trimmed + first + 1, redis.call('LRANGE', KEYS[1], first, first + tonumber(ARGV[2]) - 1)}
