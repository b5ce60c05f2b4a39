// Images, as they are listed and made, and what is said while they come and go.

export interface ImageSummary {
  /** sha256:… of the image's config. */
  readonly id: string;
  /** The id of the image it was made from here; "" for one that came from elsewhere. */
  readonly parent: string;
  readonly repoTags: readonly string[];
  readonly repoDigests: readonly string[];
  readonly created: string;
  /** Unpacked bytes of all layers. */
  readonly size: number;
  /** Bottom to top; images share those of one id. */
  readonly layers: readonly { readonly id: string; readonly bytes: number }[];
  readonly labels: Readonly<Record<string, string>>;
}

/** A line of an image's history. */
export interface ImageStep {
  /** Of the image itself for the newest, else `<missing>`. */
  readonly id: string;
  /** RFC 3339, "" when unknown. */
  readonly created: string;
  readonly createdBy: string;
  readonly comment: string;
  readonly tags: readonly string[];
  /** Unpacked. */
  readonly bytes: number;
}

/** How an imported image is called and what it has beside its files. */
export interface ImportImage {
  /** "": no name. */
  readonly reference: string;
  readonly message: string;
  /** os/architecture; "": this machine's. */
  readonly platform: string;
  /** The container's configuration of the OCI image specification. */
  readonly config: Readonly<Record<string, unknown>>;
}

export interface RegistryAuth {
  readonly username?: string;
  readonly password?: string;
  readonly identitytoken?: string;
  readonly serveraddress?: string;
}

/** Progress as Docker's JSON lines: {status, id?, progressDetail?, progress?}. */
export type PullProgress = (line: {
  readonly status: string;
  readonly id?: string;
  readonly progressDetail?: { readonly current?: number; readonly total?: number };
}) => void;

/** The same, with what is printed as it stands, and what programs read. */
export type Progress = (line: {
  readonly status?: string;
  readonly id?: string;
  readonly progressDetail?: { readonly current?: number; readonly total?: number };
  readonly stream?: string;
  readonly aux?: Readonly<Record<string, unknown>>;
}) => void;
