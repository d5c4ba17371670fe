-- Compare-and-set for up to 64 transactions of one partition (LEDGER §1, §2, §6). No rule of money lives here.
--
-- KEYS  1 marks that leases exist in the partition; 2 the outbox, a list; then one for each write; then one for each
--       change of a due set or an index. All share the partition's hash tag.
--       Leases lie beside the mark, under its name, a colon and the root. They are fairness only: a call that a moving
--       slot cuts off from them loses nothing.
-- ARGV  1 the shape, packed big-endian:
--           flags u8 (1: a write deletes or has a time to live; 2: a key is written twice; 4: a lease is taken),
--           transactions u16, writes u32, events u32;
--           with flag 1 for each write its time to live in seconds u32, 0: none, 4294967295: delete;
--           for each transaction: writes u16, events u16, changes u16, leases u8 (0 or 1);
--           for each lease: milliseconds u16, root and holder each behind its length u8
--       then for each write the version that it expects (empty: absent), for each write its document,
--       the events, and for each change: ZADD or HSET with two arguments, or ZREM or HDEL with one and an empty second
-- Gives 1 when all won. Else one answer for each transaction: 1, won; below zero, refused by a lease for so many
-- milliseconds; a list of documents in the order of its writes (false: absent), lost, and nothing of it was done.

local call, sub, unpacked = redis.call, string.sub, struct.unpack
local LIMIT = 4000 -- arguments of one command; an even number, and Lua's stack ends at 8000
local DELETE = 4294967295

local shape = ARGV[1]
local flags, transactions, n, events, at = unpacked('>BI2I4I4', shape)
local timed = flags % 2 == 1

-- One command for the mark and all documents; the outbox between them is no string and counts as absent.
local have
if n < LIMIT then
  have = call('MGET', unpack(KEYS, 1, n + 2))
else
  have = {}
  for from = 1, n + 2, LIMIT do
    local page = call('MGET', unpack(KEYS, from, math.min(from + LIMIT - 1, n + 2)))
    for i = 1, #page do have[from + i - 1] = page[i] end
  end
end

-- The way of nearly every call: all win, and what came in goes out as it lies. No closure is made up to its end.
if flags < 2 and not have[1] and n + events < LIMIT / 2 then
  local set, last, won = {}, 0, true
  for i = 1, n do
    local document = have[i + 2]
    if (document and sub(document, 1, 16) or '') ~= ARGV[i + 1] then
      won = false
      break
    end
    if not timed or unpacked('>I4', shape, at + 4 * i - 4) == 0 then
      set[last + 1], set[last + 2] = KEYS[i + 2], ARGV[n + 1 + i]
      last = last + 2
    end
  end
  if won then
    if last > 0 then call('MSET', unpack(set)) end
    if timed then
      for i = 1, n do
        local ttl = unpacked('>I4', shape, at + 4 * i - 4)
        if ttl == DELETE then
          call('DEL', KEYS[i + 2])
        elseif ttl ~= 0 then
          call('SET', KEYS[i + 2], ARGV[n + 1 + i], 'EX', ttl)
        end
      end
    end
    local a = 2 * n + 2
    if events > 0 then call('RPUSH', KEYS[2], unpack(ARGV, a, a + events - 1)) end
    a = a + events
    for i = n + 3, #KEYS do
      local command = ARGV[a]
      if command == 'ZADD' or command == 'HSET' then
        call(command, KEYS[i], ARGV[a + 1], ARGV[a + 2])
      else
        call(command, KEYS[i], ARGV[a + 1])
      end
      a = a + 3
    end
    return 1
  end
end

-- One transaction after the other; `have` keeps up with what they write.
local repeats = flags % 4 >= 2
local place = repeats and {} or nil -- key -> the place in `have` that all its writes share
local shape_at = timed and at + 4 * n or at
local lease_at = shape_at + 7 * transactions
local answers, set, last, told, told_last = {}, {}, 0, {}, 0
local first, first_event, first_change = 1, 1, 1

if repeats then
  for i = 1, n do
    local key = KEYS[i + 2]
    if not place[key] then place[key] = i + 2 end
  end
end

local function ttl_of(i)
  return timed and unpacked('>I4', shape, at + 4 * i - 4) or 0
end

-- A command with a list of arguments of any length.
local function spread(command, list, length, key)
  for from = 1, length, LIMIT do
    local to = math.min(from + LIMIT - 1, length)
    if key then call(command, key, unpack(list, from, to)) else call(command, unpack(list, from, to)) end
  end
end

-- Milliseconds that another holder keeps the root; 0: none does, and the lease is taken if asked for.
local function ask_lease()
  local take, root, holder
  take, root, holder, lease_at = unpacked('>I2Bc0Bc0', shape, lease_at)
  if take == 0 and not have[1] then return 0 end
  local key = KEYS[1] .. ':' .. root
  local held = call('GET', key)
  local left = held and call('PTTL', key) or 0
  if held and held ~= holder and left > 0 then return left end
  if take > left then
    call('SET', key, holder, 'PX', take)
    if call('PTTL', KEYS[1]) < take then call('SET', KEYS[1], '1', 'PX', take) end
    have[1] = '1'
  end
  return 0
end

for number = 1, transactions do
  local writes, told_here, changes, leases
  writes, told_here, changes, leases, shape_at = unpacked('>I2I2I2B', shape, shape_at)
  local wait = leases > 0 and ask_lease() or 0
  if wait > 0 then
    answers[number] = -wait
  else
    local won = true
    for i = first, first + writes - 1 do
      local document = have[place and place[KEYS[i + 2]] or i + 2]
      if (document and sub(document, 1, 16) or '') ~= ARGV[i + 1] then
        won = false
        break
      end
    end
    if won then
      answers[number] = 1
      for i = first, first + writes - 1 do
        local ttl = ttl_of(i)
        if ttl == DELETE then
          call('DEL', KEYS[i + 2])
        elseif ttl ~= 0 then
          call('SET', KEYS[i + 2], ARGV[n + 1 + i], 'EX', ttl)
        elseif repeats then
          -- In order, since a later transaction may give the key another time to live.
          call('SET', KEYS[i + 2], ARGV[n + 1 + i])
        else
          set[last + 1], set[last + 2] = KEYS[i + 2], ARGV[n + 1 + i]
          last = last + 2
        end
        if repeats then have[place[KEYS[i + 2]]] = ttl ~= DELETE and ARGV[n + 1 + i] end
      end
      for i = first_event, first_event + told_here - 1 do
        told_last = told_last + 1
        told[told_last] = ARGV[2 * n + 1 + i]
      end
      for i = first_change, first_change + changes - 1 do
        local a = 2 * n + events + 3 * i - 1
        local command = ARGV[a]
        if command == 'ZADD' or command == 'HSET' then
          call(command, KEYS[2 + n + i], ARGV[a + 1], ARGV[a + 2])
        else
          call(command, KEYS[2 + n + i], ARGV[a + 1])
        end
      end
    else
      local documents = {}
      for i = first, first + writes - 1 do
        documents[i - first + 1] = have[place and place[KEYS[i + 2]] or i + 2]
      end
      answers[number] = documents
    end
  end
  first, first_event, first_change = first + writes, first_event + told_here, first_change + changes
end
if last > 0 then spread('MSET', set, last) end
if told_last > 0 then spread('RPUSH', told, told_last, KEYS[2]) end
return answers
