// Node's http module as a client: `node client.js PORT` prints what it found, as JSON.
"use strict";
const http = require("node:http");
const crypto = require("node:crypto");

const port = Number(process.argv[2]);
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const other = new http.Agent({ keepAlive: true, maxSockets: 1 });

// One request; `send` writes the body, `take` gets the pieces of the answer as they come.
function call(method, path, { send, take, use = agent, headers = {} } = {}) {
  return new Promise((resolve, reject) => {
    const request = http.request({ host: "127.0.0.1", port, method, path, headers, agent: use }, (response) => {
      const hash = crypto.createHash("sha256");
      const pieces = [];
      let size = 0;
      response.on("data", (piece) => {
        hash.update(piece);
        size += piece.length;
        if (size < 65536) pieces.push(piece);
        if (take) take(piece);
      });
      response.on("error", reject);
      response.on("end", () => {
        const text = Buffer.concat(pieces).toString();
        resolve({ status: response.statusCode, text, size, sha256: hash.digest("hex"), local: request.localPort });
      });
    });
    request.on("error", reject);
    request.on("socket", (socket) => {
      const note = () => { request.localPort = socket.localPort; };
      if (socket.connecting) socket.once("connect", note); else note();
    });
    if (send) send(request); else request.end();
  });
}

async function main() {
  const found = {};
  const kept = [];
  for (let n = 0; n < 5; n += 1) kept.push(await call("GET", `/info?n=${n}`));
  found.statuses = kept.map((one) => one.status);
  found.connections = new Set(kept.map((one) => one.local)).size;

  // No length is known: Node sends it chunked. The second piece leaves when the backend has the first one.
  const uploaded = await call("POST", "/digest?name=node-up", {
    send: async (request) => {
      request.write(Buffer.alloc(1 << 20, "x"));
      found.upload_streamed = (await call("GET", "/wait?name=node-up", { use: other })).text;
      request.end(Buffer.alloc(2 << 20, "x"));
    },
  });
  found.uploaded = uploaded.text;

  const downloaded = await call("GET", "/blocks?count=48");
  found.downloaded = [downloaded.size, downloaded.sha256];

  // The last line leaves when the first one is here.
  const dripped = await call("GET", "/drip?name=node-down", {
    take: (piece) => { if (piece.toString() === "first\n") call("GET", "/go?name=node-down", { use: other }); },
  });
  found.dripped = dripped.text;

  const expected = await call("POST", "/digest", {
    headers: { Expect: "100-continue", "Content-Length": "5" },
    send: (request) => { request.on("continue", () => { found.continued = true; request.end("hello"); }); request.flushHeaders(); },
  });
  found.expected = expected.text;
  found.head = (await call("HEAD", "/info")).status;
  agent.destroy();
  other.destroy();
  console.log(JSON.stringify(found));
}

main().catch((error) => { console.error(error); process.exit(1); });
