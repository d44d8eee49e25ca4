-- Health of a CounterNamespace for Argo CD. Agrees with kstatus (Flux): what is Failed there is Degraded here, and nothing is Healthy
-- here that is InProgress there.
if obj.metadata.deletionTimestamp ~= nil then
  return {status = "Progressing", message = "Deletion is under way"}
end
if obj.status == nil or obj.status.observedGeneration == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "Waiting for the operator"}
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions or {}) do
  conditions[condition.type] = condition
end

local function is_true(name)
  return conditions[name] ~= nil and conditions[name].status == "True"
end

local function health(status, name)
  local condition = conditions[name]
  return {status = status, message = condition.reason .. ": " .. condition.message}
end

-- Waiting cannot help.
if is_true("Stalled") then
  return health("Degraded", "Stalled")
end
-- Trouble; but one that has never had its slices, and for which waiting can help, is still on its way: its class, its Secret or its
-- Cassandra may come with the same sync.
local is_new = obj.status.slices == nil
if is_true("Degraded") and not (is_new and is_true("Reconciling")) then
  return health("Degraded", "Degraded")
end
-- On purpose, by spec.paused.
if is_true("Paused") then
  return health("Suspended", "Paused")
end
if is_true("Reconciling") then
  return health("Progressing", "Reconciling")
end
if is_true("Ready") then
  return health("Healthy", "Ready")
end
if conditions["Ready"] ~= nil then
  return health("Progressing", "Ready")
end
return {status = "Progressing", message = "Waiting for the condition Ready"}
