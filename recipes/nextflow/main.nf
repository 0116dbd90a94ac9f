#!/usr/bin/env nextflow

// A folder that a microscope wrote, or a recipe, in; the recipe, a report and a table of hits out.
//
//     nextflow run workflow --folder /data/plate1 --platemap map.xlsx
//     nextflow run workflow --recipe mine.toml
//     nextflow run workflow --recipe hits.toml --profiles profiles.csv

include { CELLSSL_INIT } from './modules/local/cellssl/init/main'
include { CELLSSL_HITS } from './modules/local/cellssl/hits/main'
include { CELLSSL_RUN  } from './modules/local/cellssl/run/main'

workflow {
    if (!params.recipe && (params.profiles || !params.folder)) {
        error('give --folder PLATE, which may be a pattern, or --recipe FILE')
    }
    store = file(params.store).toAbsolutePath() // a task would take a relative path for one in its own folder
    store.mkdirs() // a container engine would make it as root
    platemap = params.platemap ? file(params.platemap, checkIfExists: true) : []

    if (params.profiles) {
        recipe = file(params.recipe, checkIfExists: true)
        profiles = file(params.profiles, checkIfExists: true)
        CELLSSL_HITS(channel.of([[id: profiles.baseName], recipe, profiles]), "${store}")
    }
    else if (params.recipe) {
        recipe = file(params.recipe, checkIfExists: true)
        images = params.folder ? file(params.folder, type: 'dir', checkIfExists: true) : []
        // the recipe may be edited by hand, so it is taken as it is, with the tables beside it
        tables = files("${recipe.parent}/*.{csv,tsv,xlsx,parquet}")
        CELLSSL_RUN(channel.of([[id: recipe.baseName], recipe, tables, images, platemap]), "${store}")
    }
    else {
        folders = files(params.folder, type: 'dir', checkIfExists: true)
        if (folders.collect { folder -> folder.name }.toSet().size() < folders.size()) {
            error('two folders have the same name, and their results would too: give one at a time, each with its own --outdir')
        }
        plates = channel.fromList(folders).map { folder -> [[id: folder.name], folder, platemap] }
        CELLSSL_INIT(plates)
        CELLSSL_RUN(CELLSSL_INIT.out.recipe.join(CELLSSL_INIT.out.tables).join(plates), "${store}")
    }

    channel.topic('versions')
        .map { process, tool, version -> "${process}:\n    ${tool}: ${version}" }
        .unique()
        .collectFile(name: 'versions.yml', storeDir: params.outdir, newLine: true, sort: true)
}
