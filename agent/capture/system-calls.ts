/**
 * Makes the few system calls of live capture, through koffi; what the kernel refuses is told as an
 * error that says what was attempted and what it needs. Linux alone, x86-64 and arm64.
 */
import { createRequire } from "node:module";
import { endianness } from "node:os";
import type Koffi from "koffi";

/** What the kernel's headers call them: AF_…, SOCK_…, SOL_…, SO_…, POLL…. */
export const AF_NETLINK = 16;
export const AF_PACKET = 17;
export const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
export const SOL_SOCKET = 1;
export const SO_ERROR = 4;
export const POLLIN = 1;
export const POLLERR = 8;
export const POLLNVAL = 32;
const MSG_DONTWAIT = 0x40;
const EFD_CLOEXEC = 0o2000000;

const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_FAILED = 0xffffffffffffffffn;
/** The largest page of a machine, on arm64. */
const PAGE_BYTES = 1 << 16;

/** Numbers of bpf(2), which the C library does not wrap (asm/unistd.h of each). */
const BPF_NUMBER: Readonly<Record<string, number>> = { x64: 321, arm64: 280 };

const BPF_TRIES = 100;

/** A call that the kernel refused, or a machine that has no such calls. */
export class RefusedCall extends Error {
  /** As errno names it (`EPERM`), or `UNSUPPORTED`. */
  readonly code: string;

  constructor(attempt: string, code: string, needs: string, cause?: unknown) {
    super(`${attempt}: ${code}${needs === "" ? "" : `: ${needs}`}`, { cause });
    this.name = "RefusedCall";
    this.code = code;
  }
}

/** Memory that the kernel shares; once it is unmapped it reads as zeros. */
export type Mapped = { address: bigint; view: DataView<SharedArrayBuffer> };

/** Memory in which so many bytes can be mapped, at the first page that begins in it. */
export function memoryFor(length: number): SharedArrayBuffer {
  return new SharedArrayBuffer(length + PAGE_BYTES);
}

/** Who is told what a thread has open, and has memory for it to map in (`holdings.ts`). */
type Notes = {
  readonly memory: SharedArrayBuffer;
  note(fd: number): void;
  strike(fd: number): void;
};

type Call = {
  (...args: unknown[]): number;
  async: (...args: unknown[]) => void;
};

/** The calls, bound once for each thread that makes them. */
export class SystemCalls {
  readonly #koffi: typeof Koffi;
  readonly #notes: Notes | null;
  readonly #names = new Map<number, string>();
  readonly #socket: Call;
  readonly #bind: Call;
  readonly #setOption: Call;
  readonly #getOption: Call;
  readonly #map: (...args: unknown[]) => bigint;
  readonly #poll: Call;
  readonly #close: Call;
  readonly #receive: Call;
  readonly #write: Call;
  readonly #event: Call;
  readonly #bpf: Call;
  readonly #bpfNumber: number;

  constructor(notes: Notes | null = null) {
    this.#notes = notes;
    const attempt = "system calls";
    const machine = `${process.platform} ${process.arch}`;
    const number = BPF_NUMBER[process.arch];
    if (process.platform !== "linux" || number === undefined || endianness() !== "LE") {
      throw new RefusedCall(attempt, "UNSUPPORTED", `there are none for ${machine}`);
    }
    this.#bpfNumber = number;
    try {
      this.#koffi = createRequire(import.meta.url)("koffi") as typeof Koffi;
      const { errno } = this.#koffi.os as { errno: Record<string, number> };
      for (const [name, value] of Object.entries(errno)) this.#names.set(value, name);
      const c = this.#koffi.load(null); // what the program itself is linked to
      const bind = (prototype: string) => c.func(prototype) as Call;
      this.#socket = bind("int socket(int domain, int type, int protocol)");
      this.#bind = bind("int bind(int fd, void *address, uint32_t length)");
      this.#setOption = bind(
        "int setsockopt(int fd, int level, int name, void *value, uint32_t length)",
      );
      this.#getOption = bind(
        "int getsockopt(int fd, int level, int name, void *value, void *length)",
      );
      this.#map = c.func(
        "void *mmap(void *at, size_t length, int protection, int flags, int fd, int64_t offset)",
      ) as (...args: unknown[]) => bigint;
      this.#poll = bind("int poll(void *waits, ulong count, int timeout)");
      this.#close = bind("int close(int fd)");
      this.#receive = bind("long recv(int fd, void *into, size_t length, int flags)");
      this.#write = bind("long write(int fd, void *bytes, size_t length)");
      this.#event = bind("int eventfd(uint32_t value, int flags)");
      this.#bpf = bind("long syscall(long number, long command, void *attributes, ulong length)");
    } catch (error) {
      if (error instanceof RefusedCall) throw error;
      throw new RefusedCall(attempt, "UNSUPPORTED", `koffi does not load on ${machine}`, error);
    }
  }

  /** The error of the call that has just failed. */
  #refused(attempt: string, needs: (code: string) => string = () => ""): RefusedCall {
    const code = this.errorName(this.#koffi.errno());
    return new RefusedCall(attempt, code, needs(code));
  }

  #noted(fd: number): number {
    this.#notes?.note(fd);
    return fd;
  }

  errorName(errno: number): string {
    return this.#names.get(errno) ?? `errno ${errno}`;
  }

  /** A socket, closed when the program is replaced. */
  socket(domain: number, type: number, protocol: number, attempt: string): number {
    const fd = this.#socket(domain, type | SOCK_CLOEXEC, protocol);
    if (fd >= 0) return this.#noted(fd);
    throw this.#refused(attempt, (code) =>
      code === "EPERM" && domain === AF_PACKET ? "add capability NET_RAW to the container" : "",
    );
  }

  bind(fd: number, address: Uint8Array, attempt: string): void {
    if (this.#bind(fd, address, address.length) < 0) throw this.#refused(attempt);
  }

  setOption(fd: number, level: number, name: number, value: Uint8Array, attempt: string): void {
    if (this.#setOption(fd, level, name, value, value.length) < 0) {
      throw this.#refused(attempt, (code) =>
        code === "ENOMEM" ? "the kernel has no such memory left: ask for a smaller ring" : "",
      );
    }
  }

  /** Reads an option of four or more bytes into `into`. */
  getOption(fd: number, level: number, name: number, into: Uint8Array, attempt: string): void {
    const length = new Uint8Array(Uint32Array.of(into.length).buffer);
    if (this.#getOption(fd, level, name, into, length) < 0) throw this.#refused(attempt);
  }

  /**
   * Maps what stands behind `fd`, to be read and written. It takes the place of memory of a
   * `SharedArrayBuffer`: a view that outlives it never points to nothing; and of shared memory the
   * engine keeps no account, by which a large ring would make it collect garbage ever again.
   */
  map(fd: number, length: number, attempt: string): Mapped {
    const mapped = this.#pagesIn(this.#notes?.memory ?? memoryFor(length), length);
    this.#mapAt(mapped.address, length, MAP_SHARED, fd, attempt);
    return mapped;
  }

  #pagesIn(memory: SharedArrayBuffer, length = memory.byteLength - PAGE_BYTES): Mapped {
    const base = this.addressOf(new Uint8Array(memory));
    const page = BigInt(PAGE_BYTES);
    const address = ((base + page - 1n) / page) * page;
    return { address, view: new DataView(memory, Number(address - base), length) };
  }

  #mapAt(address: bigint, length: number, flags: number, fd: number, attempt: string): void {
    const at = this.#map(address, length, PROT_READ_WRITE, flags | MAP_FIXED, fd, 0);
    if (BigInt(at) === MAP_FAILED) throw this.#refused(attempt);
  }

  /** Gives mapped memory back. */
  unmap({ address, view }: Mapped): void {
    this.#mapAt(address, view.byteLength, MAP_PRIVATE | MAP_ANONYMOUS, -1, "munmap");
  }

  /** Gives back whatever was mapped in memory of `memoryFor`, by whom it may be. */
  unmapIn(memory: SharedArrayBuffer): void {
    this.unmap(this.#pagesIn(memory));
  }

  /**
   * Waits for events: `waits` is an array of `struct pollfd`. `timeoutMs` of -1 waits for ever.
   * Returns how many have any; 0 also after a signal.
   */
  poll(waits: Uint8Array, count: number, timeoutMs: number): number {
    const ready = this.#poll(waits, count, timeoutMs);
    if (ready >= 0) return ready;
    const error = this.#refused("poll");
    if (error.code === "EINTR" || error.code === "EAGAIN") return 0;
    throw error;
  }

  /**
   * As `poll`, in a thread of the engine's pool; `onReady` is called when it is over. Until then
   * neither memory nor descriptors may be given back.
   */
  pollAside(
    waits: Uint8Array,
    count: number,
    timeoutMs: number,
    onReady: (ready: number) => void,
  ): void {
    this.#poll.async(waits, count, timeoutMs, (error: Error | null, ready: number) => {
      if (error !== null) throw error;
      onReady(Math.max(0, ready)); // a signal, or a want of memory: the next one tells
    });
  }

  close(fd: number): void {
    this.#notes?.strike(fd);
    this.#close(fd);
  }

  /** Bytes of one message that waits at a socket; 0 when none does, -1 when some were lost. */
  receive(fd: number, into: Uint8Array): number {
    const length = this.#receive(fd, into, into.length, MSG_DONTWAIT);
    if (length >= 0) return length;
    return this.errorName(this.#koffi.errno()) === "ENOBUFS" ? -1 : 0;
  }

  /** A counter that poll sees as readable once `raise` was called. */
  event(): number {
    const fd = this.#event(0, EFD_CLOEXEC);
    if (fd < 0) throw this.#refused("eventfd");
    return this.#noted(fd);
  }

  raise(event: number): void {
    this.write(event, new Uint8Array(BigUint64Array.of(1n).buffer));
  }

  /** Reports whether all bytes were taken. */
  write(fd: number, bytes: Uint8Array): boolean {
    return this.#write(fd, bytes, bytes.length) === bytes.length;
  }

  /** As `bpf`, of commands that make something: its file descriptor, or the negated errno. */
  bpfMake(command: number, attributes: Uint8Array): number {
    const fd = this.bpf(command, attributes);
    return fd < 0 ? fd : this.#noted(fd);
  }

  /**
   * bpf(2): 0, or the negated errno. Pointers in `attributes` come from `addressOf`, and what they
   * point to must live until the call is over.
   */
  bpf(command: number, attributes: Uint8Array): number {
    const { errno, os } = this.#koffi;
    for (let tries = 1; ; tries++) {
      const result = this.#bpf(this.#bpfNumber, command, attributes, attributes.length);
      if (result >= 0) return result;
      const code = errno();
      // The verifier gives up while a signal waits, as a profiler's does all the time.
      if (code !== os.errno.EAGAIN || tries === BPF_TRIES) return -code;
    }
  }

  /** Where an array's bytes lie: they never move if its `ArrayBuffer` was made by itself. */
  addressOf(bytes: ArrayBufferView): bigint {
    return this.#koffi.address(bytes);
  }
}
