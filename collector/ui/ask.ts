/** Asks the API, which is where the page came from. */

/** The answer's JSON; throws a sentence when there is none. */
export async function ask<T>(path: string, parameters: Record<string, string> = {}): Promise<T> {
  const response = await send(path, parameters);
  return (await response.json()) as T;
}

export async function askText(path: string): Promise<string> {
  return (await send(path, {})).text();
}

async function send(path: string, parameters: Record<string, string>): Promise<Response> {
  const query = new URLSearchParams(parameters).toString();
  const response = await fetch(query === "" ? path : `${path}?${query}`).catch(() => null);
  if (response === null) throw new Error("The collector does not answer.");
  if (response.ok) return response;
  const told = (await response.json().catch(() => null)) as { error?: string } | null;
  throw new Error(`${told?.error ?? "The collector refused"} (${response.status}).`);
}
