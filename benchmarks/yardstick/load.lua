-- What wrk sends: wrk -s load.lua URL -- KEY=VALUE ...
--   heads=small | same | varying    body=BYTES of an upload    chunked=1    close=1
-- and what it found, as one line of JSON.

-- A browser's twelve fields; each %s is where two requests of a browser differ.
local BROWSER = "GET %s HTTP/1.1\r\n"
    .. "Host: shop.example.com\r\n"
    .. "Connection: keep-alive\r\n"
    .. 'sec-ch-ua: "Chromium";v="126", "Not.A/Brand";v="24"\r\n'
    .. "sec-ch-ua-mobile: ?0\r\n"
    .. "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n"
    .. "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    .. "Sec-Fetch-Site: same-origin\r\n"
    .. "Sec-Fetch-Mode: navigate\r\n"
    .. "Referer: https://shop.example.com%s\r\n"
    .. "Accept-Encoding: gzip, deflate, br\r\n"
    .. "Accept-Language: en-GB,en;q=0.9\r\n"
    .. "Cookie: session=%s; seen=%s\r\n\r\n"

-- Made beforehand, so that a request costs the generator a look-up. A prime: no number of connections divides it.
local VARIANTS = 1009

local function browser(number)
    local item = string.format("/items/%08d?page=%d", number * 7919, number % 10)
    local before = string.format("/items/%08d?page=%d", number * 104729, number % 10)
    local session = string.format("%08x%08x", number * 2654435, number * 40503)
    return string.format(BROWSER, item, before, session, string.format("%06d", number * 31))
end

local function chunked(body)
    local parts = {}
    for from = 1, #body, 16384 do
        local part = body:sub(from, from + 16383)
        parts[#parts + 1] = string.format("%x\r\n%s\r\n", #part, part)
    end
    return table.concat(parts) .. "0\r\n\r\n"
end

function init(words)
    local told = {}
    for _, word in ipairs(words) do
        local key, value = word:match("^(%w+)=(.*)$")
        if key then told[key] = value end
    end
    if told.close then wrk.headers["Connection"] = "close" end
    if told.body then
        wrk.method = "POST"
        wrk.body = string.rep("0123456789abcdef", tonumber(told.body) / 16)
    end
    if told.chunked then
        wrk.headers["Transfer-Encoding"] = "chunked"
        local body = chunked(wrk.body)
        wrk.body = nil
        local head = wrk.format()
        local all = head .. body
        request = function() return all end
    elseif told.heads == "same" then
        local one = browser(1)
        request = function() return one end
    elseif told.heads == "varying" then
        local heads, next = {}, 0
        for number = 1, VARIANTS do heads[number] = browser(number) end
        request = function()
            next = next % VARIANTS + 1
            return heads[next]
        end
    end
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '\n{"requests": %d, "bytes": %d, "us": %d, "p50": %d, "p99": %d, "p999": %d, "errors": %d}\n',
        summary.requests, summary.bytes, summary.duration,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
        errors.connect + errors.read + errors.write + errors.status + errors.timeout
    ))
end
