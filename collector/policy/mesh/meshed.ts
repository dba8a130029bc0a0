/** Tells whether a workload is meshed, by what its manifest shows. */
import type { Holder } from "../../attribution/holder.ts";

export type Mesh = "istio" | "ambient" | "linkerd" | "consul";

/** Null mesh: none. `certain` is false where nothing is shown either way. */
export type Meshed = { mesh: Mesh | null; certain: boolean; sentence: string };

/** Containers that are a proxy, by the mesh that puts them there. */
export const SIDECARS: Readonly<Record<string, Mesh>> = {
  "istio-proxy": "istio",
  "linkerd-proxy": "linkerd",
  "consul-dataplane": "consul",
  "envoy-sidecar": "consul",
  "consul-connect-envoy-sidecar": "consul",
};

/** Judges containers first (they run), then the pod's own labels, then its namespace's. */
export function readMeshed(holder: Holder): Meshed {
  if (holder.kind !== "pod") return certainly(null, `${holder.name} is no pod`);
  if (holder.hostNetwork) return certainly(null, "pods on the node's network are not meshed");
  for (const name of holder.containers) {
    const mesh = SIDECARS[name];
    if (mesh !== undefined) return certainly(mesh, `container ${name} runs in the pod`);
  }
  return readPod(holder) ?? readNamespace(holder) ?? nothingShown();
}

function readPod({ labels, annotations }: Holder): Meshed | null {
  const inject = labels["sidecar.istio.io/inject"] ?? annotations["sidecar.istio.io/inject"];
  if (inject === "true") return certainly("istio", "sidecar.istio.io/inject is true on the pod");
  const mode = labels["istio.io/dataplane-mode"];
  if (mode === "ambient") return certainly("ambient", "the pod is labelled for ambient");
  if (labels["security.istio.io/tlsMode"] === "istio") {
    return certainly("istio", "the pod is labelled security.istio.io/tlsMode=istio");
  }
  const linkerd = annotations["linkerd.io/inject"];
  if (linkerd === "enabled" || linkerd === "ingress") {
    return certainly("linkerd", `linkerd.io/inject is ${linkerd} on the pod`);
  }
  const consul = annotations["consul.hashicorp.com/connect-inject"];
  if (annotations["consul.hashicorp.com/connect-inject-status"] === "injected") {
    return certainly("consul", "connect-inject-status is injected on the pod");
  }
  if (annotations["consul.hashicorp.com/gateway-kind"] !== undefined) {
    return certainly("consul", "the pod is a gateway of Consul's");
  }
  if (consul === "true") return certainly("consul", "connect-inject is true on the pod");
  if (inject === "false") return certainly(null, "sidecar.istio.io/inject is false on the pod");
  if (mode === "none") return certainly(null, "istio.io/dataplane-mode is none on the pod");
  if (linkerd === "disabled") return certainly(null, "linkerd.io/inject is disabled on the pod");
  if (consul === "false") return certainly(null, "connect-inject is false on the pod");
  return null;
}

function readNamespace(holder: Holder): Meshed | null {
  const { namespaceLabels, namespaceAnnotations, namespace } = holder;
  const injection = namespaceLabels["istio-injection"];
  if (injection === "enabled" || (injection !== "disabled" && "istio.io/rev" in namespaceLabels)) {
    return certainly("istio", `namespace ${namespace} is labelled for sidecar injection`);
  }
  if (namespaceLabels["istio.io/dataplane-mode"] === "ambient") {
    return certainly("ambient", `namespace ${namespace} is labelled for ambient`);
  }
  const linkerd = namespaceAnnotations["linkerd.io/inject"];
  if (linkerd === "enabled" || linkerd === "ingress") {
    return certainly("linkerd", `linkerd.io/inject is ${linkerd} on namespace ${namespace}`);
  }
  if (injection === "disabled") {
    return certainly(null, `sidecar injection is disabled in namespace ${namespace}`);
  }
  return null;
}

function certainly(mesh: Mesh | null, sentence: string): Meshed {
  return { mesh, certain: true, sentence };
}

function nothingShown(): Meshed {
  return { mesh: null, certain: false, sentence: "nothing shows whether it is meshed" };
}
