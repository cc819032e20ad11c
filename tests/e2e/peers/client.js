// Node's http through the balancer: kept connections, a chunked upload, a streamed download.
const http = require("http");
const port = Number(process.argv[2]);
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
function ask(options, body) {
  return new Promise((resolve, reject) => {
    const request = http.request({ host: "127.0.0.1", port, agent, ...options }, (response) => {
      let size = 0;
      response.on("data", (piece) => (size += piece.length));
      response.on("end", () => resolve([response.statusCode, size, request.reusedSocket]));
    });
    request.on("error", reject);
    for (const piece of body || []) request.write(piece);
    request.end();
  });
}
(async () => {
  const results = [];
  results.push(await ask({ path: "/" }));
  results.push(await ask({ path: "/echo", method: "POST" }, Array(20).fill("x".repeat(10000))));
  results.push(await ask({ path: "/?size=3000000&chunked=1" }));
  results.push(await ask({ path: "/", method: "HEAD" }));
  agent.destroy();
  console.log(JSON.stringify(results));
})();
