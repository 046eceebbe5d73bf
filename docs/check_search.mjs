// Check the search of a built site: what people type finds the page that helps, first.
//
// Run it with `node docs/check_search.mjs build/site`. It runs the site's own scripts, without a browser.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import vm from "node:vm";

const FIRST = {
  "1006": "faq",
  "1009": "faq",
  "1011": "faq",
  "address already in use": "faq",
  "authentication": "howto/authentication",
  "autoreload": "howto/autoreload",
  "back-pressure": "howto/patterns",
  "backpressure": "howto/patterns",
  "broadcast": "howto/broadcast",
  "connection closed": "howto/reconnection",
  "docker": "howto/containers",
  "graceful shutdown": "howto/shutdown",
  "heartbeat": "howto/keepalive",
  "jwt": "howto/authentication",
  "keepalive": "howto/keepalive",
  "kubernetes": "howto/kubernetes",
  "max_size": "howto/limits",
  "memory leak": "faq",
  "nginx": "howto/nginx",
  "ping timeout": "howto/keepalive",
  "proxy": "howto/proxies",
  "reconnect": "howto/reconnection",
  "rooms": "howto/rooms",
  "sigterm": "howto/shutdown",
  "ssl": "howto/tls",
  "supervisord": "howto/supervisors",
  "testing": "howto/testing",
  "thousands of clients": "howto/broadcast",
  "threading": "howto/threads",
};

const SCRIPTS = ["_static/search.js", "_static/searchtools.js", "_static/language_data.js", "searchindex.js"];

const site = process.argv[2];
const scripts = SCRIPTS.map((name) => readFileSync(join(site, name), "utf8"));

// What the search finds first, in a page whose address has the query.
function first(query) {
  const ready = [];
  const context = {
    URLSearchParams,
    console,
    location: { search: `?${new URLSearchParams({ q: query })}` },
    localStorage: { setItem() {} },
    SPHINX_HIGHLIGHT_ENABLED: false,
    // Of Sphinx: begin the search when the document is ready, which is done below; and translate.
    _ready() {},
    _: (text) => text,
    document: {
      readyState: "loading",
      addEventListener: (event, listener) => ready.push(listener),
      getElementById: () => null,
    },
  };
  context.window = context;
  vm.createContext(context);
  vm.runInContext(scripts[0], context);
  vm.runInContext(scripts.slice(1).join("\n;\n") + "\n;globalThis.Search = Search;", context);
  ready[0]();
  // The last one is shown first.
  const found = context.Search._performSearch(...context.Search._parseQuery(query)).at(-1);
  return found === undefined ? "nothing" : found[0];
}

let wrong = 0;
for (const [query, page] of Object.entries(FIRST)) {
  const found = first(query);
  if (found !== page) {
    wrong += 1;
    console.log(`${query}: finds ${found} first, not ${page}`);
  }
}
console.log(`${Object.keys(FIRST).length} searches, ${wrong} complaints`);
process.exit(wrong ? 1 : 0);
