// Stands in front of the theme's script, which starts a worker on every page.
// This one starts when search is opened, beside the request for the index.
class LaterWorker extends EventTarget {
  constructor(url) {
    super();
    this.url = url;
    document
      .querySelector("[data-md-toggle=search]")
      .addEventListener("change", () => this.start());
    // Where no worker can be had the theme hides its search, if told at once.
    if (location.protocol === "file:") this.start();
  }

  start() {
    if (this.worker) return;
    this.worker = new Worker(this.url);
    this.worker.addEventListener("message", ({ data }) =>
      this.dispatchEvent(new MessageEvent("message", { data }))
    );
  }

  postMessage(message) {
    this.start();
    this.worker.postMessage(message);
  }
}
