/** Names EtherTypes other than IP, and tells those that a tunnel may be known by. */

export const VN_TAG = 0x8926;
export const E_TAG = 0x893f;
export const CISCO_METADATA = 0x8909;
export const NSH = 0x894f;

/** Reports whether an EtherType announces one of these, which stand between Ethernet and IP. */
export function isShim(etherType: number): boolean {
  return (
    etherType === VN_TAG || etherType === E_TAG || etherType === CISCO_METADATA || etherType === NSH
  );
}

/** EtherTypes that stand in what pods and switches send: IPv4, IPv6, ARP, tags, MPLS, shims. */
export function isEtherType(type: number): boolean {
  switch (type) {
    case 0x0800:
    case 0x86dd:
    case 0x0806:
    case 0x8100:
    case 0x88a8:
    case 0x8847:
      return true;
    default:
      return isShim(type);
  }
}

/** GRE and Geneve say so where an Ethernet frame follows; NVGRE too (RFC 7637). */
export const TRANSPARENT_ETHERNET = 0x6558;
