// The line below a page's title that leads to the laboratory: whether this browser can run the page, and what it keeps.

const STORAGE = "Convolution, Verified"; // contentsStorageName in book/live/jupyter-lite.json
const FILES = "files";

function answer(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

// The laboratory's database, if there is one: to open one that is not there would make it.
async function openStorage() {
  const there = await indexedDB.databases();
  if (!there.some((database) => database.name === STORAGE)) return null;
  const storage = await answer(indexedDB.open(STORAGE));
  storage.onversionchange = () => storage.close(); // else a laboratory that opens later would wait for this page
  return storage;
}

async function offerToStartAgain(way) {
  const storage = await openStorage();
  if (!storage?.objectStoreNames.contains(FILES)) return;
  const files = (mode) => storage.transaction(FILES, mode).objectStore(FILES);
  if (!(await answer(files("readonly").getKey(way.dataset.notebook)))) return;
  const again = document.createElement("button");
  again.type = "button";
  again.textContent = "Start again";
  const told = document.createElement("span");
  told.setAttribute("role", "status");
  told.textContent = "This browser keeps your copy of it. ";
  again.addEventListener("click", async () => {
    await answer(files("readwrite").delete(way.dataset.notebook));
    again.remove();
    told.textContent = "Your copy is thrown away.";
  });
  way.append(document.createElement("br"), told, again);
}

document.addEventListener("DOMContentLoaded", () => {
  for (const way of document.querySelectorAll("p.kv-live")) {
    if (typeof WebAssembly === "object") offerToStartAgain(way);
    else way.textContent = "This browser has no WebAssembly, so it cannot run the page.";
  }
});
