import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  // The packages of this repository are linked, and have a React of their own beside them.
  resolve: { dedupe: ["react", "react-dom", "@rollcall/sdk"] },
});
