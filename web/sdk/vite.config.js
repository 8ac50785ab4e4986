import { defineConfig } from "vite";

// The whole library as one script for pages without a bundler: it makes Rollcall and RollcallClient global.
export default defineConfig({
  build: {
    target: "es2022",
    emptyOutDir: false,
    lib: { entry: "src/script.ts", formats: ["iife"], name: "rollcallScript", fileName: () => "rollcall.js" },
  },
});
