// As answers.py, with Node's https and http2.
import fs from "node:fs";
import http2 from "node:http2";
import https from "node:https";

const [base, authority, credentials, file] = process.argv.slice(2);
const ca = fs.readFileSync(authority);
const basic = "Basic " + Buffer.from(credentials).toString("base64");
const agent = new https.Agent({ keepAlive: true, maxSockets: 1, ca });

function byHttps(request, headers, body, keep) {
  return new Promise((resolve, reject) => {
    const options = { method: request.method, headers: { ...headers, "content-length": body.length } };
    options.agent = keep ? agent : new https.Agent({ ca });
    const sent = https.request(base + request.path, options, (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode));
      response.on("error", reject);
    });
    sent.on("error", reject);
    // Too late for a request that was answered.
    sent.on("close", () => reject(new Error("closed")));
    sent.end(body);
  });
}

let kept;
function byHttp2(request, headers, body, keep) {
  return new Promise((resolve, reject) => {
    let session = keep ? kept : undefined;
    if (!session || session.destroyed || session.closed) {
      session = http2.connect(base, { ca });
      session.on("error", reject);
    }
    if (keep) kept = session;
    const stream = session.request({ ":method": request.method, ":path": request.path, ...headers });
    let status;
    stream.on("response", (answer) => (status = answer[":status"]));
    stream.on("error", reject);
    stream.on("close", () => {
      if (!keep) session.close();
      resolve(status);
    });
    stream.resume();
    stream.end(body);
  });
}

function withinSeconds(seconds, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("no answer")), 1000 * seconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

let answered = 0;
for (const line of fs.readFileSync(file, "utf8").trim().split("\n")) {
  const request = JSON.parse(line);
  const headers = { ...request.headers };
  if (request.authenticated) headers["authorization"] = basic;
  for (const send of [byHttps, byHttp2]) {
    for (const keep of [false, true]) {
      const body = Buffer.alloc(request.size, "x");
      let status;
      try {
        status = await withinSeconds(30, send(request, headers, body, keep));
      } catch (error) {
        status = String(error);
      }
      if (status === request.expected) answered += 1;
      else console.log("lost:", send.name, `keep=${keep}`, line, status);
    }
  }
}
agent.destroy();
kept?.close();
console.log("answered:", answered);
