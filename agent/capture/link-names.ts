/** Names link types that captures come with, for telling people which are not read. */

/** LINKTYPE_… of tcpdump.org, without the prefix: the common ones among those that are not read. */
const NAMES: ReadonlyMap<number, string> = new Map([
  [3, "AX25"],
  [6, "IEEE802_5"],
  [8, "SLIP"],
  [10, "FDDI"],
  [105, "IEEE802_11"],
  [107, "FRELAY"],
  [109, "ENC"],
  [117, "PFLOG"],
  [119, "IEEE802_11_PRISM"],
  [127, "IEEE802_11_RADIOTAP"],
  [140, "MTP2"],
  [141, "MTP3"],
  [143, "DOCSIS"],
  [147, "USER0"],
  [148, "USER1"],
  [149, "USER2"],
  [163, "IEEE802_11_AVS"],
  [177, "LINUX_LAPD"],
  [187, "BLUETOOTH_HCI_H4"],
  [189, "USB_LINUX"],
  [195, "IEEE802_15_4_WITHFCS"],
  [201, "BLUETOOTH_HCI_H4_WITH_PHDR"],
  [220, "USB_LINUX_MMAPPED"],
  [226, "IPNET"],
  [227, "CAN_SOCKETCAN"],
  [249, "USBPCAP"],
  [251, "BLUETOOTH_LE_LL"],
  [252, "WIRESHARK_UPPER_PDU"],
  [253, "NETLINK"],
  [271, "VSOCK"],
]);

/** Those whose packets stand behind a header of their own; `link-wrappers.ts` takes it off. */
export const WRAPPED_LINKS: ReadonlyMap<number, string> = new Map([
  [192, "PPI"],
  [197, "ERF"],
  [239, "NFLOG"],
  [240, "NETANALYZER"],
  [241, "NETANALYZER_TRANSPARENT"],
  [258, "PKTAP"],
]);

/** Added to what snoop's files call a link, where no LINKTYPE_ is the same. */
export const SNOOP_LINKS = 0x10000;

/** A link type as people look it up: `105 (IEEE802_11)`. */
export function linkName(linkType: number): string {
  if (linkType >= SNOOP_LINKS) return `${linkType - SNOOP_LINKS} of snoop`;
  const name = NAMES.get(linkType) ?? WRAPPED_LINKS.get(linkType);
  return name === undefined ? String(linkType) : `${linkType} (${name})`;
}
