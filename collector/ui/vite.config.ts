/** Builds the page: one script, one style sheet, nothing from elsewhere. */
import { defineConfig } from "vite";

export default defineConfig({
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0, // the content security policy takes no data: URLs
    chunkSizeWarningLimit: 900, // the map's engine is most of it
  },
});
