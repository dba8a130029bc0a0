/** Types the layout engine, which comes without types. */
declare module "cytoscape-fcose" {
  const extension: (core: unknown) => void;
  export default extension;
}
