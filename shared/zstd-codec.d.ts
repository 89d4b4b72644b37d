/** The part of zstd-codec (which ships no types) that zstd.ts uses. It answers null where other libraries throw. */
declare module 'zstd-codec' {
  export interface WasmCodec {
    Simple: new () => { compress(raw: Uint8Array, level: number): Uint8Array | null; decompress(frame: Uint8Array): Uint8Array | null }
    Streaming: new () => { decompress(frame: Uint8Array, sizeHint: number): Uint8Array | null }
  }
  /** Calls back when the WASM module is ready to use. */
  export const ZstdCodec: { run(ready: (codec: WasmCodec) => void): void }
}
