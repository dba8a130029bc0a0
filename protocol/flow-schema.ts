/** Names the flow record's schema. */
export const FLOW_SCHEMA = "wireproof.flow/1";
