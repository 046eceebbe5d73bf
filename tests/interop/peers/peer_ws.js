// Peer for Node's `ws`.
//
// Charter: implements the contract described in contract.py with the module `ws`, which is found through NODE_PATH.

"use strict";

const crypto = require("node:crypto");
const readline = require("node:readline");
const WebSocket = require("ws");

function emit(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

const library = `ws ${require("ws/package.json").version}`;

// Compress messages of any size.
const perMessageDeflate = { threshold: 0 };

// What arrives on a connection, made available one by one. Listening begins at once: events may already be on the way.
class Link {
  constructor(socket) {
    this.socket = socket;
    this.arrived = [];
    this.waiting = [];
    socket.on("message", (data, isBinary) => this.deliver({ message: isBinary ? data : data.toString() }));
    socket.on("pong", (data) => this.deliver({ pong: data.toString() }));
    socket.on("close", (code, reason) => this.deliver({ closed: { code, reason: reason.toString() } }));
    socket.on("error", (error) => this.deliver({ error: String(error) }));
  }

  deliver(event) {
    const waiter = this.waiting.shift();
    if (waiter === undefined) {
      this.arrived.push(event);
    } else {
      waiter(event);
    }
  }

  next() {
    const event = this.arrived.shift();
    return event === undefined ? new Promise((resolve) => this.waiting.push(resolve)) : Promise.resolve(event);
  }

  // The next event, which must be of this kind.
  async expect(kind) {
    const event = await this.next();
    if (!(kind in event)) {
      throw new Error(`${JSON.stringify(event)} instead of ${kind}`);
    }
    return event[kind];
  }

  async ping(payload) {
    this.socket.ping(payload);
    const pong = await this.expect("pong");
    if (pong !== payload) {
      throw new Error(`pong with ${pong} instead of ${payload}`);
    }
  }

  async close(code, reason) {
    this.socket.close(code, reason);
    return (await this.expect("closed")).code;
  }
}

// --- server ---

async function echo(link) {
  for (;;) {
    const event = await link.next();
    if ("closed" in event) {
      return event.closed;
    }
    link.socket.send(event.message);
  }
}

async function attend(link, url) {
  if (url.pathname === "/close") {
    const { searchParams } = url;
    return { code: await link.close(Number(searchParams.get("code")), searchParams.get("reason") ?? "") };
  }
  if (url.pathname === "/ping") {
    await link.ping("are you there?");
    link.socket.send("pong");
  }
  return echo(link);
}

async function handle(socket, request) {
  const target = request.url;
  try {
    emit({ target, ...(await attend(new Link(socket), new URL(target, "ws://localhost"))) });
  } catch (error) {
    emit({ target, error: String(error) });
  }
}

function runServer() {
  const server = new WebSocket.Server({ host: "127.0.0.1", port: 0, perMessageDeflate });
  server.on("connection", handle);
  server.on("listening", () => emit({ library, port: server.address().port }));
  process.stdin.resume().on("end", () => process.exit());
}

// --- client ---

function build({ text, hex, times = 1 }) {
  if (text !== undefined) {
    return text.repeat(times);
  }
  return Buffer.concat(Array(times).fill(Buffer.from(hex, "hex")));
}

function describe(message) {
  const data = Buffer.from(message);
  const type = typeof message === "string" ? "text" : "binary";
  return { type, size: data.length, sha256: crypto.createHash("sha256").update(data).digest("hex") };
}

function open(uri, deflate) {
  const socket = new WebSocket(uri, { perMessageDeflate: deflate ? perMessageDeflate : false });
  const link = new Link(socket);
  return new Promise((resolve, reject) => {
    socket.on("open", () => resolve(link));
    socket.on("error", reject);
  });
}

async function converse(link, scenario) {
  const received = [];
  if (scenario.ping !== null) {
    await link.ping(scenario.ping);
  }
  for (const message of scenario.send) {
    link.socket.send(build(message));
    received.push(describe(await link.expect("message")));
  }
  for (let count = 0; count < scenario.receive; count++) {
    received.push(describe(await link.expect("message")));
  }
  return received;
}

async function play(uri, scenario) {
  const link = await open(uri + scenario.target, scenario.deflate);
  const deflate = link.socket.extensions.includes("permessage-deflate");
  const received = await converse(link, scenario);
  const { close } = scenario;
  const closed = close === null ? await link.expect("closed") : { code: await link.close(close.code, close.reason) };
  return { deflate, received, ...closed };
}

async function runClient(uri) {
  emit({ library });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const scenario = JSON.parse(line);
    const { target } = scenario;
    try {
      emit({ target, ...(await play(uri, scenario)) });
    } catch (error) {
      emit({ target, error: String(error) });
    }
  }
}

const [role, uri] = process.argv.slice(2);
if (role === "server") {
  runServer();
} else {
  runClient(uri);
}
