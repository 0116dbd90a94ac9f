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
    file(params.store).mkdirs() // a container engine would make it as root
    platemap = params.platemap ? file(params.platemap, checkIfExists: true) : []

    if (params.profiles) {
        recipe = file(params.recipe, checkIfExists: true)
        profiles = file(params.profiles, checkIfExists: true)
        CELLSSL_HITS(channel.of([[id: profiles.baseName], recipe, profiles]), params.store)
    }
    else if (params.recipe) {
        recipe = file(params.recipe, checkIfExists: true)
        images = params.folder ? file(params.folder, type: 'dir', checkIfExists: true) : []
        // the recipe may be edited by hand, so it is taken as it is, with the tables beside it
        tables = files("${recipe.parent}/*.csv")
        CELLSSL_RUN(channel.of([[id: recipe.baseName], recipe, tables, images, platemap]), params.store)
    }
    else {
        plates = channel.fromPath(params.folder, type: 'dir', checkIfExists: true)
            .map { folder -> [[id: folder.name], folder, platemap] }
        CELLSSL_INIT(plates)
        CELLSSL_RUN(CELLSSL_INIT.out.recipe.join(CELLSSL_INIT.out.tables).join(plates), params.store)
    }

    channel.topic('versions')
        .map { process, tool, version -> "${process}:\n    ${tool}: ${version}" }
        .unique()
        .collectFile(name: 'versions.yml', storeDir: params.outdir, newLine: true, sort: true)
}
