/** The few members of WebAssembly that we use: @types/node names types only. */
interface WasmGlobal {
  readonly value: number
}

declare const WebAssembly: {
  validate(code: Uint8Array): boolean
  readonly Module: new (code: Uint8Array) => WebAssembly.Module
  readonly Instance: new (module: WebAssembly.Module, imports: object) => { readonly exports: object }
  readonly Memory: new (size: { initial: number; maximum: number }) => { readonly buffer: ArrayBuffer }
}
