/** Bounds the rate of contradictions that a sample can have missed. */

/** One-sided 95 %. */
const CONFIDENCE = 0.95;

/**
 * Exact Clopper–Pearson upper bound of a rate of which `seen` were seen in `n` (0 <= seen <= n).
 * With none seen it is 1 − 0.05^(1/n), about 3/n; with no sample at all it is 1.
 */
export function upperBound(seen: number, n: number): number {
  if (n === 0 || seen >= n) return 1;
  if (seen === 0) return 1 - (1 - CONFIDENCE) ** (1 / n);
  // The bound p is where P(X <= seen | n, p) = 0.05; that probability falls as p grows.
  let low = seen / n;
  let high = 1;
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (atMost(seen, n, middle) > 1 - CONFIDENCE) low = middle;
    else high = middle;
  }
  return high;
}

/** P(X <= k) for a binomial X of n tries at rate p, summed in logarithms. */
function atMost(k: number, n: number, p: number): number {
  let logTerm = n * Math.log1p(-p);
  let sum = Math.exp(logTerm);
  for (let i = 1; i <= k; i++) {
    logTerm += Math.log((n - i + 1) / i) + Math.log(p) - Math.log1p(-p);
    sum += Math.exp(logTerm);
  }
  return sum;
}

/** `10 %`; of small shares two digits. */
export function formatShare(share: number): string {
  return `${Number((share * 100).toPrecision(2))} %`;
}
