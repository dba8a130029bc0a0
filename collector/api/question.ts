/** Reads a request's query string by the table of its route's parameters. */
import { VERDICTS } from "../verdict/verdict.ts";

/** Longest value of any parameter, decoded: two long names and a port fit many times. */
export const VALUE_LIMIT = 2000;

type Form = "time" | "text" | "count" | "index" | "aspect" | "verdict";

export type Parameter = {
  name: string;
  form: Form;
  sentence: string;
  required?: boolean;
  /** Of a count. */
  most?: number;
  otherwise?: number;
};

/** What was asked, by name; a parameter that was left out is not there. */
export type Question = {
  from?: number;
  to?: number;
  edge?: string;
  id?: string;
  aspect?: string;
  verdict?: string;
  limit?: number;
  windows?: number;
  index?: number;
};

export const ASPECTS = ["transport", "path"] as const;
/** 9999-12-31, the last day that RFC 3339 can spell. */
const LATEST_MS = 253402300799999;
const RFC3339 = /^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})$/;

/** The question, or a sentence on what is wrong with it. */
export function readQuestion(query: string, parameters: readonly Parameter[]): Question | string {
  const asked = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(query)) {
    const known = parameters.some((parameter) => parameter.name === name);
    if (!known) return `there is no parameter ${quote(name)} here`;
    if (asked.has(name)) return `${name} is given twice`;
    if (value.length > VALUE_LIMIT) return `${name} is longer than ${VALUE_LIMIT} characters`;
    asked.set(name, value);
  }
  const question: Record<string, string | number> = {};
  for (const parameter of parameters) {
    const value = asked.get(parameter.name);
    if (value === undefined) {
      if (parameter.required) return `${parameter.name} is missing: ${parameter.sentence}`;
      if (parameter.otherwise !== undefined) question[parameter.name] = parameter.otherwise;
      continue;
    }
    const read = readValue(value, parameter);
    if (read === null) return `${parameter.name}=${quote(value)}: expected ${expected(parameter)}`;
    question[parameter.name] = read;
  }
  const { from, to } = question as Question;
  if (from !== undefined && to !== undefined && from >= to) return "from must be before to";
  return question as Question;
}

function readValue(value: string, { form, most }: Parameter): string | number | null {
  switch (form) {
    case "text":
      return value === "" ? null : value;
    case "aspect":
      return ASPECTS.some((aspect) => aspect === value) ? value : null;
    case "verdict":
      return VERDICTS.some((word) => word === value) ? value : null;
    case "index":
      return readInteger(value, 0, Number.MAX_SAFE_INTEGER);
    case "count":
      return readInteger(value, 1, most ?? Number.MAX_SAFE_INTEGER);
    case "time":
      return readTime(value);
  }
}

function readInteger(value: string, least: number, most: number): number | null {
  if (!/^(0|[1-9]\d{0,15})$/.test(value)) return null;
  const number = Number(value);
  return number >= least && number <= most ? number : null;
}

/** RFC 3339, or milliseconds since the epoch. */
function readTime(value: string): number | null {
  const ms = RFC3339.test(value) ? Date.parse(value) : readInteger(value, 0, LATEST_MS);
  return ms === null || Number.isNaN(ms) || ms < 0 || ms > LATEST_MS ? null : ms;
}

/** What a parameter takes, as a noun phrase. */
export function expected({ form, most }: Parameter): string {
  switch (form) {
    case "text":
      return "text that is not empty";
    case "aspect":
      return ASPECTS.join(" or ");
    case "verdict":
      return `one of ${VERDICTS.join(", ")}`;
    case "index":
      return "a whole number from 0";
    case "count":
      return `a whole number from 1 to ${most}`;
    case "time":
      return "a time as RFC 3339 or milliseconds since the epoch";
  }
}

/** A stranger's text, shortened. */
function quote(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}
