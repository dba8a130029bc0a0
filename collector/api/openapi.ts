/** Turns the table of routes into an OpenAPI 3.1 document. */
import { ErrorAnswer } from "./answers.ts";
import { LIVE_PATH, LIVE_SENTENCE, LIVE_TYPE } from "./live.ts";
import { ASPECTS, expected, VALUE_LIMIT, type Parameter } from "./question.ts";
import { ROUTES, type Route } from "./routes.ts";
import { VERDICTS } from "../verdict/verdict.ts";

/** The whole document, as text that ends in a newline. */
export function formatOpenapi(version: string): string {
  const paths: Record<string, object> = {};
  for (const route of ROUTES) paths[route.path.replace("*", "{tile}")] = { get: operation(route) };
  paths[LIVE_PATH] = {
    get: {
      summary: LIVE_SENTENCE,
      responses: { 200: { description: "OK", content: { [LIVE_TYPE]: {} } } },
    },
  };
  const document = {
    openapi: "3.1.0",
    info: {
      title: "Wireproof",
      version,
      description:
        "Reads what was judged, and the evidence for it. Every route takes GET and HEAD; nothing " +
        "can be changed here. Only `confirmed` counts as success.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    paths,
    components: { schemas: { Error: ErrorAnswer } },
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

function operation({ path, sentence, parameters, answers }: Route): object {
  const content =
    typeof answers === "string"
      ? { [answers.split(";")[0]!]: {} }
      : { "application/json": { schema: answers } };
  const refusal = (description: string) => ({
    description,
    content: { "application/json": { schema: { $ref: "#/components/schemas/Error" } } },
  });
  const rest = { name: "tile", in: "path", required: true, schema: { type: "string" } };
  return {
    summary: sentence,
    parameters: [...(path.endsWith("*") ? [rest] : []), ...parameters.map(toParameter)],
    responses: {
      200: { description: "OK", content },
      400: refusal("A parameter is wrong."),
      404: refusal("There is no such thing."),
    },
  };
}

function toParameter(parameter: Parameter): object {
  const { name, sentence, required } = parameter;
  const description = `${sentence} Takes ${expected(parameter)}.`;
  return { name, in: "query", required: required === true, description, schema: form(parameter) };
}

function form({ form, most, otherwise }: Parameter): object {
  const otherwiseIf = otherwise === undefined ? {} : { default: otherwise };
  switch (form) {
    case "aspect":
      return { enum: ASPECTS };
    case "verdict":
      return { enum: VERDICTS };
    case "index":
      return { type: "integer", minimum: 0 };
    case "count":
      return { type: "integer", minimum: 1, maximum: most, ...otherwiseIf };
    case "text":
    case "time":
      return { type: "string", minLength: 1, maxLength: VALUE_LIMIT };
  }
}
