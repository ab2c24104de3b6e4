-- readable: what is sent of the records: none that is too long, and of all together no more than a reply should hold.
-- Needs   record_max
-- Gives   readable(record) -> the record, or how long it is where that is too long; is_enough()
-- Why     A client with write access can store a record of 512 MB, and a claim takes 250: no worker should have to
--         hold them. It learns the length instead, and ends the run with that reason.
local ENOUGH_BYTES = 16777216
local longest_record = tonumber(record_max)
local sent_bytes = 0

local function readable(record)
  local length = #record
  if length > longest_record then
    return length
  end
  sent_bytes = sent_bytes + length
  return record
end

-- Whether the reply is long enough already: the rest comes with the next one.
local function is_enough()
  return sent_bytes > ENOUGH_BYTES
end
