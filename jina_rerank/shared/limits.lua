-- One exchange of a process (a "member") with the shared limits: the process reports its use and asks for permits for
-- its waiting requests; the reply states how many of them are granted, or when to ask again.
--
-- KEYS  1 state    hash    totals and buckets of the sliding window, limits, pause
--       2 members  hash    member -> [seq, use_seq, held, requests, tokens, at, want, head]
--       3 leases   sorted  member -> when its slots are freed, unless it reports again
--       4 waiting  sorted  member -> until when room is reserved for it
-- ARGV  1 a JSON object. The reply is a JSON object as well. All times are milliseconds.
local STATE, MEMBERS, LEASES, WAITING = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local KEEP = 3600000          -- unused keys expire after an hour
local STATED_FOR = 60000      -- how long a configured limit counts unless a process repeats it
local CONFIRMED_FOR = 300000  -- a limit from a 429 is raised after this time without confirmation,
local GROWS_IN = 10000        -- by 1 %, which doubles in this time
local OTHERS_SLOTS_FOR = 1000 -- slots of programs outside the shared limits are expected to be free after this time
local SLACK = 0.02            -- the share of its use by which a member may be ahead of another, waiting one,
local SLACK_REQUESTS = 0.5    -- plus this number of requests;
local SLACK_SLOTS = 1.5       -- more if only slots are limited, since each handover leaves a slot empty for a moment
local MIN_POLL, MAX_POLL = 5, 1000
local GRACE = 500             -- the tolerated delay of a waiting member
local KINDS = { 'requests', 'tokens', 'concurrency' }

local call, floor, ceil, max, min, huge = redis.call, math.floor, math.ceil, math.max, math.min, math.huge
local ask = cjson.decode(ARGV[1])
local clock = call('TIME')
local now = clock[1] * 1000 + floor(clock[2] / 1000)
local me = ask.member
local half_life = ask.window / 2 -- of a member's use, by which shares are equalized

-- State ---------------------------------------------------------------------------------------------------------
local fields = { 'epoch', 'last', 'oldest', 'requests', 'tokens', 'in_flight', 'pause', 'outside', 'outside_until' }
for _, kind in ipairs(KINDS) do
  for _, what in ipairs({ 'stated:', 'stated_until:', 'learnt:', 'learnt_at:' }) do
    fields[#fields + 1] = what .. kind
  end
end
local state, was = {}, {}
for index, value in ipairs(call('HMGET', STATE, unpack(fields))) do
  if value then
    state[fields[index]] = fields[index] == 'epoch' and value or tonumber(value)
    was[fields[index]] = state[fields[index]]
  end
end
-- New, partly evicted, or the clock was set back: start over. The members then report all their use again.
local found = call('EXISTS', MEMBERS, LEASES)
if not state.epoch or found == 1 or now < (state.last or 0) - 1000 then
  call('DEL', STATE, MEMBERS, LEASES, WAITING)
  state, was = { epoch = clock[1] .. '.' .. clock[2] }, {}
end
if ask.epoch ~= '' and ask.epoch ~= state.epoch then
  call('HSET', STATE, 'epoch', state.epoch)
  call('PEXPIRE', STATE, KEEP)
  return cjson.encode({ epoch = state.epoch, restate = true })
end
state.last = now
state.in_flight = found > 0 and state.in_flight or 0
for _, name in ipairs({ 'requests', 'tokens', 'in_flight', 'pause', 'outside', 'outside_until' }) do
  state[name] = state[name] or 0
end

-- Members -------------------------------------------------------------------------------------------------------
local function load(member) -- with its use decayed
  local packed = call('HGET', MEMBERS, member)
  local r = packed and cjson.decode(packed) or { 0, 0, 0, 0, 0, now, 0, 0 }
  local left = 2 ^ ((r[6] - now) / half_life)
  local requests, tokens = r[4] * left, r[5] * left
  return { seq = r[1], use_seq = r[2], held = r[3], requests = requests, tokens = tokens, want = r[7], head = r[8] }
end

local function save(member, r)
  call('HSET', MEMBERS, member, cjson.encode({ r.seq, r.use_seq, r.held, r.requests, r.tokens, now, r.want, r.head }))
  call('ZADD', LEASES, now + ask.lease, member)
end

local function forget(member, record)
  state.in_flight = state.in_flight - record.held
  call('HDEL', MEMBERS, member)
  call('ZREM', LEASES, member)
  call('ZREM', WAITING, member)
end

local mine = load(me)
if ask.seq <= mine.seq then -- a duplicate, or overtaken by a later exchange on another connection
  return cjson.encode({ epoch = state.epoch, stale = true })
end
mine.seq = ask.seq
state.in_flight = state.in_flight + ask.held - mine.held
mine.held = ask.held
for _, member in ipairs(call('ZRANGEBYSCORE', LEASES, '-inf', now)) do
  if member ~= me then
    forget(member, load(member))
  end
end
call('ZREMRANGEBYSCORE', WAITING, '-inf', now)

-- The sliding window ----------------------------------------------------------------------------------------------
local size = ask.window / ask.buckets
local current, first = floor(now / size), floor((now - ask.window) / size)

-- A bucket counts until it is completely outside the window.
local oldest = state.oldest or first
for bucket = oldest, min(first - 1, oldest + ask.buckets + 2) do
  local spent = call('HMGET', STATE, 'r' .. bucket, 't' .. bucket)
  if spent[1] then
    state.requests = state.requests - spent[1]
    state.tokens = state.tokens - spent[2]
    call('HDEL', STATE, 'r' .. bucket, 't' .. bucket)
  end
end
state.oldest = max(first, oldest)

local function count(bucket, requests, tokens)
  call('HINCRBY', STATE, 'r' .. bucket, requests)
  call('HINCRBY', STATE, 't' .. bucket, tokens)
  state.requests, state.tokens = state.requests + requests, state.tokens + tokens
end

if ask.use_seq > mine.use_seq then -- otherwise it is a repetition after a lost reply
  mine.use_seq = ask.use_seq
  for _, use in ipairs(ask.use) do -- sent with a local permit, or billed differently than asked for
    local bucket = floor((now - use[1]) / size)
    if bucket >= state.oldest then
      count(min(bucket, current), use[2], use[3])
      mine.requests, mine.tokens = max(0, mine.requests + use[2]), max(0, mine.tokens + use[3])
    end
  end
end

-- Return the time when at most `most` of a kind counts, if nothing else is sent.
local function free_at(kind, most)
  local left, names = state[kind], {}
  for bucket = state.oldest, current do
    names[#names + 1] = (kind == 'requests' and 'r' or 't') .. bucket
  end
  for index, spent in ipairs(call('HMGET', STATE, unpack(names))) do
    if left <= most then
      return (state.oldest + index - 1) * size + ask.window
    end
    left = left - (spent or 0)
  end
  return (current + 1) * size + ask.window
end

-- Limits ----------------------------------------------------------------------------------------------------------
for kind, limit in pairs(ask.stated) do -- the lowest limit counts
  local valid = now < (state['stated_until:' .. kind] or 0)
  if not valid or limit <= state['stated:' .. kind] then
    state['stated:' .. kind], state['stated_until:' .. kind] = limit, now + STATED_FOR
  end
end
for _, update in ipairs(ask.learn) do
  local kind, limit, remaining = update[1], update[2], update[3]
  state['learnt:' .. kind], state['learnt_at:' .. kind] = limit, now
  -- Use beyond our own comes from programs with the same key outside the shared limits.
  if kind == 'concurrency' then
    state.outside, state.outside_until = max(0, limit - remaining - state.in_flight), now + OTHERS_SLOTS_FOR
  else
    local others = limit - remaining - state[kind]
    if others > 0 then
      count(current, kind == 'requests' and others or 0, kind == 'tokens' and others or 0)
    end
  end
end
state.pause = max(state.pause, now + ask.pause)

local limits = {}
for _, kind in ipairs(KINDS) do
  local limit = huge
  local learnt, at = state['learnt:' .. kind], state['learnt_at:' .. kind]
  if learnt and now - at < KEEP then
    local unconfirmed = now - at - CONFIRMED_FOR
    limit = learnt + (unconfirmed < 0 and 0 or floor(max(1, learnt / 100) * 2 ^ (unconfirmed / GROWS_IN)))
  end
  if now < (state['stated_until:' .. kind] or 0) then
    limit = min(limit, state['stated:' .. kind])
  end
  limits[kind] = limit
end

-- Permits ---------------------------------------------------------------------------------------------------------
-- A member's use, and the increase by one request of `tokens`, as a share of the tightest limit.
local only_slots = limits.requests == huge and limits.tokens == huge

local function used(record)
  return only_slots and record.requests or max(record.requests / limits.requests, record.tokens / limits.tokens)
end

local function unit(tokens)
  return only_slots and 1 or max(1 / limits.requests, tokens / limits.tokens, 1e-9)
end

local others
local function waiting_others()
  if not others then
    others = {}
    for _, member in ipairs(call('ZRANGE', WAITING, 0, -1)) do
      if member ~= me then
        local record = load(member)
        others[#others + 1] = { member = member, used = used(record), unit = unit(record.head), want = record.want,
          head = record.head }
      end
    end
  end
  return others
end

-- Return whether a request leaves enough for the waiting members that have used less.
local function is_my_turn(tokens, slots, requests)
  local kept, kept_tokens = 0, 0
  local ahead = used(mine) * (1 - SLACK) - (only_slots and SLACK_SLOTS or SLACK_REQUESTS) * unit(tokens)
  for _, other in ipairs(waiting_others()) do
    if ahead > other.used then
      local due = min(other.want, ceil((ahead - other.used) / other.unit))
      kept, kept_tokens = kept + due, kept_tokens + due * other.head
    end
  end
  return slots - kept >= 1 and requests - kept >= 1
    and (kept_tokens == 0 or state.tokens + kept_tokens + tokens <= limits.tokens)
end

-- Return the milliseconds until this request may be sent, as far as known; nil if it may be sent now.
local function wait_for(tokens)
  local outside = now < state.outside_until and state.outside or 0
  local slots = limits.concurrency - state.in_flight - outside
  local requests = limits.requests - state.requests
  if now < state.pause then
    return state.pause - now
  elseif requests < 1 then
    return free_at('requests', limits.requests - 1) - now
  elseif state.tokens > 0 and state.tokens + tokens > limits.tokens then
    return free_at('tokens', max(0, limits.tokens - tokens)) - now -- above the limit: once nothing else counts
  elseif slots < 1 or not is_my_turn(tokens, slots, requests) then
    return 0
  end
end

local granted, granted_tokens, wait = 0, 0, nil
for _, tokens in ipairs(ask.ask) do
  wait = wait_for(tokens)
  if wait then
    break
  end
  granted, granted_tokens = granted + 1, granted_tokens + tokens
  mine.requests, mine.tokens = mine.requests + 1, mine.tokens + tokens
  state.requests, state.tokens, state.in_flight = state.requests + 1, state.tokens + tokens, state.in_flight + 1
end
if granted > 0 then
  call('HINCRBY', STATE, 'r' .. current, granted)
  call('HINCRBY', STATE, 't' .. current, granted_tokens)
  mine.held = mine.held + granted
end

-- The next member in line polls fast, later ones more slowly, so that the load does not grow with their number.
local function poll()
  local my_use, rank = used(mine), 1
  for _, other in ipairs(waiting_others()) do
    if other.used < my_use or other.used == my_use and other.member < me then
      rank = rank + 1
    end
  end
  return min(MAX_POLL, MIN_POLL * rank)
end

local asks_in = wait and (wait > 0 and max(MIN_POLL, min(wait, MAX_POLL)) or poll()) or 0

-- The new state, and the reply --------------------------------------------------------------------------------------
if ask.leave then
  forget(me, mine)
else
  mine.want, mine.head = ask.want - granted, ask.ask[granted + 1] or 0
  if mine.want > 0 then
    call('ZADD', WAITING, now + asks_in + GRACE, me)
    call('PEXPIRE', WAITING, KEEP)
  else
    call('ZREM', WAITING, me)
  end
  save(me, mine)
end
local changed = {}
for name, value in pairs(state) do
  if value ~= was[name] then
    changed[#changed + 1] = name
    changed[#changed + 1] = value
  end
end
if #changed > 0 then
  call('HSET', STATE, unpack(changed))
end
for index = 1, 3 do
  call('PEXPIRE', KEYS[index], KEEP)
end

local known = {}
for kind, limit in pairs(limits) do
  known[kind] = limit < huge and limit or nil
end
return cjson.encode({ epoch = state.epoch, granted = granted, wait = wait and ceil(wait) or 0, asks_in = ceil(asks_in),
  requests = state.requests, tokens = state.tokens, in_flight = state.in_flight, members = call('ZCARD', LEASES),
  waiting = call('ZCARD', WAITING), limits = known })
