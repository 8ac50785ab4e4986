// The official clients as npm delivers them, unmodified: most as one script for a page, the others bundled for a
// browser. They are installed for these tests alone, and are no part of Rollcall.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "vite";

const require = createRequire(import.meta.url);
const bundles = fileURLToPath(new URL("bundles/", import.meta.url));

// script reads the script of a package that makes CometChat global.
const script = (name) => () => readFile(require.resolve(name), "utf8");

// bundle bundles an entry that makes CometChat global, with what stands in for packages that browsers have not.
const bundle =
  (entry, standIns = {}) =>
  async () => {
    const alias = Object.fromEntries(Object.entries(standIns).map(([name, file]) => [name, join(bundles, file)]));
    const [{ output }] = await build({
      configFile: false,
      root: bundles,
      logLevel: "error",
      define: { "process.env.NODE_ENV": '"production"' },
      resolve: { alias },
      build: {
        write: false,
        minify: false,
        lib: { entry: join(bundles, entry), formats: ["iife"], name: "bundle", fileName: "bundle" },
      },
    });
    return output[0].code;
  };

export const builds = [
  { key: "javascript-4.2", load: script("@cometchat/chat-sdk-javascript") },
  { key: "javascript-4.0", load: script("chat-sdk-javascript-4.0") },
  { key: "ionic-4", load: script("@cometchat/chat-sdk-ionic") },
  {
    key: "react-native-4",
    load: bundle("react-native-sdk.js", {
      "@react-native-async-storage/async-storage": "async-storage.js",
      "react-native": "react-native.js",
    }),
  },
  { key: "pro-3", load: script("@cometchat-pro/chat") },
  { key: "uikit-react-6", load: bundle("uikit.js") },
];
